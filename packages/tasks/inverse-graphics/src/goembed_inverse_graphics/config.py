"""The settings of inverse graphics; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator


class ViewsConfig(Config):
    """Which views of a scene play which part."""

    context: PositiveInt = Field(default=1, description="views that are given")
    most_context: PositiveInt | None = Field(
        default=None,
        description="in training so many as is drawn for each batch, from context up to this; null for context",
    )
    first_is_context: bool = Field(
        default=True, description="the context begins with the scene's first view, as in boxes; else all are drawn"
    )
    score_context: bool = Field(
        default=False, description="the context's views are compared beside the novel one: what they show is known"
    )

    @model_validator(mode="after")
    def _most_is_not_less(self) -> Self:
        if self.most_context is not None and self.most_context < self.context:
            raise ValueError(f"most_context={self.most_context} is below context={self.context}: the least of a batch")
        return self


class ScoreConfig(Config):
    """What of the target and of the novel view is compared; what is noised is the whole target."""

    rays: PositiveInt = Field(
        default=64, description="random pixels of each view, of those whose ray meets the renderer's box"
    )
    patch_px: PositiveInt | None = Field(
        default=None, description="a square patch in their place, which lpips and smoothness need"
    )
    estimate_every: PositiveInt = Field(
        default=2,
        description="every so manieth of these pixels, in rows and columns of a patch, scores the estimate; of a "
        "corrected one all do, which costs nothing there",
    )
    estimate: NonNegativeFloat = Field(
        default=1.0,
        description="weight of the estimate's squared error among DFM's losses, L_cond; 0: it is trained as by "
        "stage=pixelnerf in steps of its own, and of a corrected one DFM's losses then move the correction alone",
    )
    novel: PositiveFloat = Field(
        default=1.0,
        description="weight of the novel views' squared error (DFM eq. 9) over the target's: what the target shows is "
        "easily painted along its rays, and seen wrong from elsewhere",
    )
    distortion: NonNegativeFloat = Field(default=0.0, description="weight of the distortion along rays (mip-NeRF 360)")
    smoothness: NonNegativeFloat = Field(default=0.0, description="weight of the edge-aware smoothness of disparity")
    lpips: NonNegativeFloat = Field(default=0.0, description="weight of LPIPS of patches; needs the network's weights")
    lpips_net: Literal["alex", "vgg"] = Field(default="alex", description="the network of LPIPS")

    @model_validator(mode="after")
    def _patches_where_needed(self) -> Self:
        for name in ("smoothness", "lpips"):
            if getattr(self, name) and self.patch_px is None:
                raise ValueError(f"{name}={getattr(self, name)} compares neighbouring pixels: set patch_px, say to 32")
        return self


class EvaluateConfig(Config):
    """What is measured, on how many contexts."""

    contexts: Annotated[int, Field(ge=2)] = Field(default=50, description="scenes of the test split")
    samples: Annotated[int, Field(ge=2)] = Field(default=16, description="samples of each")
    frequency_samples: NonNegativeInt = Field(
        default=64, description="boxes: samples of each that are drawn to count colours, those above included"
    )
    scenes: PositiveInt = Field(default=4, description="samples of each that are looked at from all around")
    views: Annotated[int, Field(ge=4)] = Field(default=8, description="boxes: views of a scene, evenly around it")
    lpips: bool = Field(default=True, description="measure LPIPS; needs AlexNet's weights, and 31 pixels a side")
    features: ComponentConfig | None = component(
        "feature-network", None, description="features of Fréchet and kernel distance; null for neither"
    )
    pictures: PositiveInt = Field(default=6, description="contexts that the report shows")
    batch_size: PositiveInt = Field(default=64, description="samples drawn together")


class InverseGraphicsConfig(TaskConfig):
    """Sample the 3D scenes that one image could be of (DFM §4.1, supplement 2.1)."""

    task: str = Field(default="inverse_graphics", description="name of the task")
    stage: Literal["dfm", "pixelnerf"] = Field(
        default="dfm", description="dfm, or the deterministic pixelNeRF alone, to begin from"
    )
    dfm_every: PositiveInt = Field(
        default=1,
        description="with more than 1 every step trains the estimate, as stage=pixelnerf does, and every so manieth by "
        "DFM's losses, which cost up to three times as much",
    )
    init: Path | None = Field(
        default=None, description="a model directory to take weights from: a run's of stage=pixelnerf, or any other"
    )
    train: TrainConfig = Field(default=TrainConfig(), description="the training")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), warmup_nimg=1_600, decay="cosine", muon_lr=0.02),
        description="optimiser of the denoiser",
    )
    dataset: ComponentConfig = component("dataset", "boxes", description="posed views of scenes")
    views: ViewsConfig = Field(default=ViewsConfig(), description="the parts that views play")
    forward_model: ComponentConfig = component(
        "forward-model",
        "nerf-renderer",
        params={"near": 2.9, "far": 5.1, "background": "white", "view_dependent": False},
        description="how a scene is seen; its distances, box and background are the estimate's too",
    )
    denoiser: ComponentConfig = component("denoiser", "pixel-aligned", description="what makes scenes of images")
    score: ScoreConfig = Field(default=ScoreConfig(), description="what is compared")
    context_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="probability with which a context is hidden in training, for guidance"
    )
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="the noise schedule")
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="the sampler of previews and evaluation")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


class SampleConfig(Config):
    """What `goembed sample` of inverse graphics can be told."""

    task: str = Field(default="inverse_graphics", description="name of the task")
    item: NonNegativeInt = Field(
        default=0, description="scene of the run's test split, whose first view is the context"
    )
    num_samples: PositiveInt = Field(default=4, description="samples of it")
    num_views: PositiveInt = Field(
        default=1, description="views that are sampled one after the other around the scene, each from all before it"
    )
    frames: Annotated[int, Field(ge=2)] = Field(default=36, description="frames of the turntable")
    fps: PositiveInt = Field(default=12, description="frames a second of the videos")
    scale: PositiveFloat = Field(default=4.0, description="size of the frames, in that of the views")
    export: Literal["none", "ply", "glb", "all"] = Field(default="all", description="points (PLY), a mesh (GLB)")
    mesh_cells: Annotated[int, Field(ge=4, le=512)] = Field(
        default=64, description="cells along the longest side of the lattice that the mesh is made from"
    )
    opacity: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.5, description="what stops so much light, along a ray or a cell, is a point or inside the mesh"
    )
    seed: NonNegativeInt = Field(default=0, description="seed of all random numbers")
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="the sampler")
    out: Path | None = Field(default=None, description="folder of what is written; null for RUN/samples")
