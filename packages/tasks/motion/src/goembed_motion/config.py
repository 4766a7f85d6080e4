"""The settings of single-image motion; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


class MotionFieldConfig(Config):
    """What the network's output means, and what keeps it a motion."""

    scale_px: PositiveFloat = Field(default=4.0, description="pixels of motion that 1 of the network's output means")
    metric_scale: NonNegativeFloat = Field(
        default=4.0, description="scale of the splatting metric, which decides what covers what; 0: all pixels alike"
    )
    futures: PositiveInt = Field(
        default=1,
        description="motions that the network answers with, and their probabilities; the paper has 1, whose "
        "image is no mean of two futures",
    )
    spread_px: NonNegativeFloat = Field(
        default=1.5,
        description="length of the motions that several futures begin with, in evenly spread directions; futures that "
        "begin alike share one mode, and none has the other",
    )
    evidence_radius_px: NonNegativeInt = Field(
        default=0,
        description="the network is told what the noisy target says of displacements up to so far; 0, as in the paper: "
        "nothing",
    )
    evidence_stride_px: PositiveInt = Field(default=2, description="steps of these displacements")
    smoothness: NonNegativeFloat = Field(default=0.02, description="weight of the edge-aware smoothness, over pixels")
    edge: NonNegativeFloat = Field(
        default=4.0, description="how much less smooth motion may be where the image has an edge: exp(-edge |gradient|)"
    )
    pyramid: NonNegativeFloat = Field(
        default=1.0, description="weight of the squared error of images at half size, and half of that, and so on"
    )
    pyramid_levels: NonNegativeInt = Field(
        default=3, description="how many times they are halved: motion is found from as far as these pixels are wide"
    )


class EvaluateConfig(Config):
    """What is measured, on how many contexts."""

    contexts: Annotated[int, Field(ge=2)] = Field(default=60, description="contexts of the test split")
    samples: Annotated[int, Field(ge=16)] = Field(default=64, description="samples of each")
    steps: tuple[PositiveInt, ...] = Field(default=(5, 10, 20, 50), description="sampler study; [] for none")
    steps_contexts: Annotated[int, Field(ge=2)] = Field(default=20, description="contexts of the sampler study")
    lpips: bool = Field(default=False, description="measure LPIPS too; needs AlexNet's weights, and 31 pixels a side")
    pictures: PositiveInt = Field(default=6, description="contexts that the report shows")
    batch_size: PositiveInt = Field(default=256, description="samples drawn together")


class MotionConfig(TaskConfig):
    """Sample the motions that could follow an image (DFM §4.2, supplement 2.2)."""

    task: str = Field(default="motion", description="name of the task")
    train: TrainConfig = Field(default=TrainConfig(), description="the training")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), warmup_nimg=1_000, decay="cosine"),
        description="optimiser of the denoiser and of the baseline",
    )
    dataset: ComponentConfig = component(
        "dataset",
        "sprites",
        params={"step_px": 4.0},
        description="clips: frame 0 is the context, frame 1 the target, others novel views; sprites or videos",
    )
    forward_model: ComponentConfig = component(
        "forward-model", "softsplat-warp", description="how an image and its motion are seen at a time"
    )
    denoiser: ComponentConfig = component(
        "denoiser",
        "dit",
        params={"in_channels": 6, "height": 32, "width": 32, "out_channels": 3},
        description="the network; its input is context and noisy target, its output motion and splatting metric",
    )
    field: MotionFieldConfig = Field(default=MotionFieldConfig(), description="the motion field")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="the noise schedule")
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="the sampler of previews and evaluation")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


class SampleConfig(Config):
    """What `goembed sample` of motion can be told."""

    task: str = Field(default="motion", description="name of the task")
    image: Path | None = Field(default=None, description="an image file; null for clips of the run's test split")
    num_images: PositiveInt = Field(default=4, description="clips to look at when no image is given")
    num_samples: PositiveInt = Field(default=8, description="samples of each image")
    num_frames: Annotated[int, Field(ge=2)] = Field(default=13, description="frames of each video, from time 0 to 1")
    fps: PositiveInt = Field(default=12, description="frames a second of the videos")
    seed: NonNegativeInt = Field(default=0, description="seed of all random numbers")
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="the sampler")
    out: Path | None = Field(default=None, description="folder of flows, frames and videos; null for RUN/samples")


_TRAIN: dict[str, Any] = {
    "batch_size": 32, "ema_halflife_nimg": 4_000, "checkpoint_every_nimg": 25_600, "log_every_nimg": 1_280,
    "preview_every_nimg": 25_600, "mixed_precision": "bf16-if-native",
}  # fmt: skip

_NETWORK: dict[str, Any] = {
    "patch_size": 8, "hidden_size": 128, "depth": 4, "num_heads": 4, "in_channels": 54, "out_channels": 8,
    "head_std": 0.02,
}  # fmt: skip
_FIELD: dict[str, Any] = {"futures": 2, "evidence_radius_px": 6, "smoothness": 0.05}

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"train": _TRAIN | {"images": 96_000}, "denoiser": _NETWORK, "field": _FIELD, "optimizer": {"lr": 7e-4}},
    # The shared or one's own clips, with the last quarter of every clip held out.
    "videos": {
        "train": _TRAIN | {"images": 64_000},
        "dataset": {"name": "videos", "size": 32, "holdout_clips": 0.0, "holdout_time": 0.25, "cache": "memory"},
        "denoiser": _NETWORK,
        "field": _FIELD,
        "optimizer": {"lr": 7e-4},
        "evaluate": {"steps": (), "lpips": True},
    },
    # DFM supplement 2.2: Vimeo-90K, Adam 2e-5, batch 72, DDIM-50; image size and smoothness weight are not published.
    "paper": {
        "train": {"images": 20_000_000, "batch_size": 72, "ema_halflife_nimg": 10_000, "preview_every_nimg": 200_000,
                  "checkpoint_every_nimg": 100_000, "clip_norm": 1.0},
        "optimizer": {"lr": 2e-5, "betas": [0.9, 0.99], "warmup_nimg": 72_000, "decay": "constant"},
        "dataset": {"name": "videos", "path": "vimeo_septuplet", "layout": "vimeo90k", "size": 64, "crop": "random"},
        "denoiser": {"size": "XL", "patch_size": 2, "in_channels": 6, "height": 64, "width": 64},
        "sampler": {"name": "ddim", "num_steps": 50},
    },
}  # fmt: skip
