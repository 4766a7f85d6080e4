"""The settings of the package's encoder and task; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

Steps = Annotated[int, Field(ge=1, le=10)]


class UnprojectionConfig(Config):
    """Colours of views, back-projected into the grids of a forward model of its own."""

    forward_model: ComponentConfig = component(
        "forward-model", description="a representation on grids, decoded and rendered; it is trained with the encoder"
    )


class DrawConfig(Config):
    """What training sees of an object."""

    sources: tuple[PositiveInt, PositiveInt] = Field(
        default=(1, 4), description="fewest and most views that are encoded; their number is drawn for each batch"
    )
    source_rays: PositiveInt | None = Field(
        default=256, description="pixels of each view that a step of the encoding looks at, drawn anew; null for all"
    )
    targets: PositiveInt = Field(default=3, description="other views, which are rendered and compared")
    target_rays: PositiveInt = Field(default=256, description="pixels of each of them")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.sources[0] > self.sources[1]:
            raise ValueError(f"sources={list(self.sources)}: expected the fewest first")
        return self


class FitConfig(Config):
    """Fitting the signal of each object to its source views, through the decoder that the encoding has trained."""

    objects: NonNegativeInt = Field(default=8, description="the first so many of the fixed list; 0 for none")
    steps: PositiveInt = Field(default=150, description="steps of Adam")
    rays: PositiveInt = Field(default=192, description="pixels of each source view in a step")
    lr: PositiveFloat = Field(default=0.1, description="learning rate of the signal, which begins at its origin")


class EvaluateConfig(Config):
    """What is measured, on one list of held-out objects and views that all methods share."""

    sources: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 4, 8), min_length=1, description="numbers of views that are encoded"
    )
    targets: PositiveInt = Field(default=4, description="held-out views of each object")
    objects: Annotated[int, Field(ge=2)] = Field(default=60, description="held-out objects, at most")
    fit: FitConfig = Field(default=FitConfig(), description="fitting each object, the bound")
    views_at_once: PositiveInt = Field(default=16, description="views that are encoded together")
    intervals: PositiveInt = Field(default=1000, description="resamples of the bootstrap, over objects")
    pictures: PositiveInt = Field(default=6, description="objects that the report shows")


def _furniture(size: int) -> dict[str, Any]:
    return {"size": size, "packed": True, "split": "train"}


def _model(samples: int, **representation: Any) -> dict[str, Any]:
    renderer = {"samples": samples, "background": "white", "view_dependent": False}
    return representation | {"renderer": renderer}


class PlenopticEncodingConfig(TaskConfig):
    """Encode views of objects by gradients at an origin, decode, and look from elsewhere; no network in between."""

    task: str = Field(default="plenoptic_encoding", description="name of the task")
    train: TrainConfig = Field(default=TrainConfig(), description="the training of every method, on the same batches")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99), warmup_nimg=80, decay="cosine"),
        description="optimiser of every method",
    )
    dataset: ComponentConfig = component(
        "dataset", "omniobject3d", params=_furniture(32), description="objects to learn; its split test is held out"
    )
    forward_model: ComponentConfig = component(
        "forward-model",
        "voxels",
        params=_model(20, resolution=24, channels=12),
        description="the representation, its decoder and its renderer",
    )
    steps: tuple[Steps, ...] = Field(
        default=(1, 2, 3), min_length=1, description="gradient steps of an encoding, each number trained by itself"
    )
    gain: PositiveFloat = Field(default=1.0, description="the gain that each gradient step begins with")
    detached: bool = Field(
        default=False, description="train each number of steps also without differentiating the encoding, to compare"
    )
    draw: DrawConfig = Field(default=DrawConfig(), description="what training sees of an object")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")

    @model_validator(mode="after")
    def _steps_differ(self) -> Self:
        if len(set(self.steps)) < len(self.steps):
            raise ValueError(f"steps={list(self.steps)}: expected different numbers")
        return self


class SampleConfig(Config):
    """What `goembed sample` can be told."""

    task: str = Field(default="plenoptic_encoding", description="name of the task")
    object: NonNegativeInt = Field(default=0, description="which of the held-out objects")
    sources: PositiveInt = Field(default=4, description="views of it that are encoded, the first of the fixed list")
    frames: PositiveInt = Field(default=36, description="frames of the turntable")
    size: Annotated[int, Field(ge=8, le=1024)] = Field(default=96, description="side of a frame in pixels")
    out: Path | None = Field(default=None, description="folder of the turntable; null for RUN/samples")


def _preset(images: int, **settings: Any) -> dict[str, Any]:
    train = {"images": images, "batch_size": 4, "ema_halflife_nimg": 80, "log_every_nimg": 80,
             "checkpoint_every_nimg": 400, "mixed_precision": "no"}  # fmt: skip
    return {"train": train} | settings


PRESETS: dict[str, dict[str, Any]] = {
    "quick": _preset(2000),
    "triplane": _preset(2000, forward_model={"name": "triplane", **_model(20, resolution=32, channels=16)}),
    "factored": _preset(2000, forward_model={"name": "factored", **_model(20, resolution=32, channels=8)}),
    "siren": _preset(2000, forward_model={"name": "siren", **_model(20, hidden_size=32, depth=2, channels=16)}),
}
