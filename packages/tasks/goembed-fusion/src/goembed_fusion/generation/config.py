"""The settings of the denoiser over planes and of the task that trains it; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from goembed_fusion.config import PlaneNetworkConfig, VoxelTransformerConfig


def _triplane(resolution: int, channels: int, samples: int) -> dict[str, Any]:
    """The encoder of the denoiser, around a triplane."""
    renderer = {"samples": samples, "background": "white", "view_dependent": False, "near": 2.0, "far": 6.0}
    model = {"name": "triplane", "resolution": resolution, "channels": channels, "renderer": renderer}
    return {"timesteps": 1000, "steps": 3, "gain": 1.0, "scale_dims": (1, 2), "forward_model": model}


def _voxels(resolution: int, channels: int) -> dict[str, Any]:
    """The encoder of the denoiser, around voxels: one of those that the package carries."""
    renderer = {"samples": 16, "proposal_samples": [24], "background": "white", "view_dependent": False}
    model = {"name": "voxels", "resolution": resolution, "channels": channels, "renderer": renderer}
    return {"steps": 3, "gain": 1.0, "forward_model": model}


class PlaneDenoiserConfig(PlaneNetworkConfig):
    """A transformer on what a context and a noisy target are encoded to."""

    encoder: ComponentConfig = component(
        "encoder",
        "goembed",
        params=_triplane(32, 12, 16),
        description="gives planes, has a forward model, and knows the timesteps of noise: goembed",
    )
    width: PositiveInt = Field(default=32, description="of the convolutions of unpatch=convolutional")
    checkpoint_blocks: bool = Field(
        default=False, description="recompute each block in the backward pass: less memory, a third more time"
    )


class VoxelDenoiserConfig(VoxelTransformerConfig):
    """Convolutions and a transformer on what a context and a noisy target are encoded to together."""

    encoder: ComponentConfig = component(
        "encoder", "goembed", params=_voxels(16, 12), description="gives voxels of clean views: goembed"
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(), description="of the noise, which says what a noisy view is worth"
    )
    most_views: PositiveFloat = Field(
        default=4.0, description="clean views that the encoder has learned; more are worth as much together"
    )


class RolesConfig(Config):
    """Which views of an object training gives, noises and compares."""

    context: tuple[PositiveInt, PositiveInt] = Field(
        default=(1, 4), description="fewest and most views that are given; their number is drawn for each batch"
    )
    target: PositiveInt = Field(default=2, description="views that are noised together, and sampled")
    novel: NonNegativeInt = Field(default=1, description="further views that the scene is compared with")
    rays: PositiveInt = Field(default=128, description="pixels of each target and novel view that are compared")
    encoded_rays: PositiveInt | None = Field(
        default=128,
        description="pixels of each view that gradient steps after the first look at, drawn anew; null for all",
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.context[0] > self.context[1]:
            raise ValueError(f"context={list(self.context)}: expected the fewest first")
        return self


class FusionEvaluateConfig(Config):
    """What is measured, on one list of held-out objects and views."""

    context: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 4), min_length=1, description="numbers of views that are given"
    )
    objects: Annotated[int, Field(ge=2)] = Field(default=48, description="held-out objects, at most")
    samples: Annotated[int, Field(ge=2)] = Field(
        default=4, description="samples of each from the fewest views; of more, and of none, one"
    )
    views: PositiveInt = Field(default=2, description="views of each object that are neither given nor noised")
    features: ComponentConfig | None = component(
        "feature-network", "efficientnet-lite0", description="features of Fréchet and kernel distance; null for neither"
    )
    batch_size: PositiveInt = Field(default=16, description="samples drawn together")
    intervals: PositiveInt = Field(default=1000, description="resamples of the bootstrap, over objects")
    pictures: PositiveInt = Field(default=6, description="objects that the report shows")


class GOEmbedFusionConfig(TaskConfig):
    """Sample the objects that a few views, or none, could be of: DFM over triplanes (GOEmbedFusion)."""

    task: str = Field(default="goembed_fusion", description="name of the task")
    train: TrainConfig = Field(default=TrainConfig(), description="the training of both networks, on the same batches")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99), warmup_nimg=200, decay="cosine", muon_lr=0.02),
        description="optimiser of both networks",
    )
    dataset: ComponentConfig = component(
        "dataset",
        "omniobject3d",
        params={"size": 32, "packed": True, "split": "train"},
        description="objects to learn; its split test is held out",
    )
    denoiser: ComponentConfig = component(
        "denoiser",
        "plane-denoiser",
        params={"encoder": {"name": "goembed", **_triplane(32, 12, 16)}},
        description="what makes planes, or voxels, of context and noisy target; its encoder has the forward model",
    )
    encodings: str | None = Field(
        default=None,
        description="encodings that are trained already and stay as they are, so that networks alone learn: embedded, "
        "the package's own, or the folder of a run of plenoptic_encoding; null trains them with the networks",
    )
    regression: bool = Field(
        default=True, description="train the same network without noisy targets too: what it is to be compared with"
    )
    views: RolesConfig = Field(default=RolesConfig(), description="the parts that views play")
    context_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.15, description="probability with which a context is left out in training"
    )
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="the noise schedule")
    sampler: SamplerConfig = Field(
        default=SamplerConfig(num_steps=4),
        description="the sampler of the evaluation; few steps, as each looks at renderings of the one before",
    )
    evaluate: FusionEvaluateConfig = Field(default=FusionEvaluateConfig(), description="the evaluation")


class FusionSampleConfig(Config):
    """What `goembed sample` of the task can be told."""

    task: str = Field(default="goembed_fusion", description="name of the task")
    object: NonNegativeInt = Field(default=0, description="which of the held-out objects of the evaluation's list")
    sources: NonNegativeInt = Field(
        default=1, description="views of it that are given, the first of the list; 0: any object"
    )
    num_samples: PositiveInt = Field(default=4, description="samples of it")
    frames: PositiveInt = Field(default=36, description="frames of the turntable")
    size: Annotated[int, Field(ge=8, le=1024)] = Field(default=96, description="side of a frame in pixels")
    export: Literal["none", "ply", "glb", "all"] = Field(default="all", description="points (PLY), a mesh (GLB)")
    mesh_cells: Annotated[int, Field(ge=4, le=512)] = Field(
        default=64, description="cells along the longest side of the lattice that the mesh is made from"
    )
    opacity: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.3, description="what stops so much light, along a ray or a cell, is a point or inside the mesh"
    )
    seed: NonNegativeInt = Field(default=0, description="seed of all random numbers")
    sampler: SamplerConfig = Field(default=SamplerConfig(num_steps=10), description="the sampler")
    out: Path | None = Field(default=None, description="folder of what is written; null for RUN/samples")


FUSION_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "train": {"images": 2_400, "batch_size": 4, "ema_halflife_nimg": 120, "log_every_nimg": 160,
                  "checkpoint_every_nimg": 800, "mixed_precision": "no", "clip_norm": 0.02},
        "optimizer": {"lr": 1e-3, "betas": (0.9, 0.999), "warmup_nimg": 80, "muon_lr": None},
        "denoiser": {"name": "voxel-denoiser", "encoder": {"name": "goembed", **_voxels(16, 12)}},
        "encodings": "embedded",
        "views": {"rays": 96, "encoded_rays": 96},
        "schedule": {"timestep_shift": 2.0},
        "sampler": {"num_steps": 10},
        "evaluate": {"objects": 24},
    },
    "triplane": {
        "train": {"images": 5_000, "batch_size": 8, "ema_halflife_nimg": 200, "log_every_nimg": 200,
                  "checkpoint_every_nimg": 1_000, "mixed_precision": "no"},
        "views": {"rays": 96, "encoded_rays": 96},
        "schedule": {"timestep_shift": 2.0},
        "evaluate": {"objects": 24},
    },
    "paper": {  # supplement: DiT-XL/2, 4 sources and 2 targets, batch 16, lr 5e-5, 1 M steps, x-start, cosine, T = 1000
        "train": {"images": 16_000_000, "batch_size": 16, "ema_halflife_nimg": 10_000, "log_every_nimg": 1_600,
                  "checkpoint_every_nimg": 160_000},
        "optimizer": {"lr": 5e-5, "betas": (0.9, 0.999), "warmup_nimg": 0, "decay": "constant", "muon_lr": None},
        "dataset": {"size": 128},
        "denoiser": {"encoder": {"name": "goembed", **_triplane(128, 32, 96)}, "patch_size": 4,
                     "hidden_size": 1152, "depth": 28, "num_heads": 16, "width": 128, "checkpoint_blocks": True},
        "views": {"context": (4, 4), "target": 2, "novel": 0, "rays": 4096, "encoded_rays": 4096},
        "context_dropout": 0.1,
        "sampler": {"name": "ddim", "num_steps": 50},
        "evaluate": {"context": (1, 2, 4), "objects": 10_000},
    },
}  # fmt: skip
