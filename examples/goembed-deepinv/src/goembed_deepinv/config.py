"""The settings of the forward model and of the task; free of torch."""

from __future__ import annotations

from typing import Annotated, Any

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, component
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator


class DeepinvConfig(Config):
    """Which operator of `deepinv.physics`, made how, for which signals."""

    operator: str = Field(default="Tomography", description="name of a class of deepinv.physics")
    parameters: dict[str, Any] = Field(
        default={}, description="what its constructor is given; the image's size is filled in where it is left out"
    )
    signal_shape: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        default=(1, 32, 32), description="channels, height and width of the images that are observed"
    )
    as_complex: bool = Field(default=False, description="give the image to the operator as complex numbers")
    kernel_size: PositiveInt = Field(default=5, description="side in pixels of the kernels that a blur is given; odd")
    half_ramp: bool = Field(
        default=False,
        description="tomography: filter projections by the root of the ramp filter; their squared error is then about "
        "that of the image, and their adjoint the filtered back-projection",
    )
    scale: PositiveFloat = Field(default=1.0, description="factor on every observation")
    seed: NonNegativeInt = Field(default=0, description="seed of an operator that is drawn at random")


class ViewsConfig(Config):
    """How each image is scanned, and which role its projections play."""

    context: PositiveInt = Field(default=4, description="projections that are known, about equally far apart")
    target: PositiveInt = Field(default=12, description="projections that are noised and estimated")
    novel: NonNegativeInt = Field(default=4, description="further projections that training compares")

    @property
    def scanned(self) -> int:
        """Projections of each image, one in each of as many equal parts of half a turn."""
        return self.context + self.target + self.novel

    @model_validator(mode="after")
    def _check(self) -> ViewsConfig:
        if self.scanned % self.context:
            raise ValueError(
                f"context={self.context} does not divide the {self.scanned} projections of an image "
                "(context + target + novel), of which every so many-th is context"
            )
        return self


class EvaluateConfig(Config):
    """On how many test images a run is judged, and by how many samples of each."""

    contexts: Annotated[int, Field(ge=2)] = Field(default=64, description="test images")
    samples: Annotated[int, Field(ge=2)] = Field(default=16, description="posterior samples of each")
    pictures: PositiveInt = Field(default=8, description="test images that the report shows")
    batch_size: PositiveInt = Field(default=128, description="samples drawn together")


class TomographyConfig(TaskConfig):
    """Images behind a few projections, learnt from projections alone (DFM §3 with deepinv's Radon transform)."""

    task: str = Field(default="tomography", description="name of the task")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=1.5e-3, betas=(0.9, 0.99), warmup_nimg=1_000, decay="cosine"),
        description="optimiser of the denoiser and of the baseline",
    )
    dataset: ComponentConfig = component(
        "dataset",
        "images",
        params={"path": "fashion-mnist", "resolution": 28},
        description="the images that are scanned for training",
    )
    held_out: ComponentConfig = component(
        "dataset",
        "images",
        params={"path": "fashion-mnist", "resolution": 28, "split": "test"},
        description="the images that a run is judged on",
    )
    forward_model: ComponentConfig = component(
        "forward-model",
        "deepinv",
        params={"operator": "Tomography", "signal_shape": [1, 28, 28], "half_ramp": True, "scale": 0.5},
    )
    denoiser: ComponentConfig = component(
        "denoiser", "dit", params={"in_channels": 2, "height": 28, "width": 28, "out_channels": 1}
    )
    views: ViewsConfig = Field(default=ViewsConfig(), description="the projections")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="the noise schedule")
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="the sampler of the evaluation")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "train": {"images": 24_000, "batch_size": 16, "ema_halflife_nimg": 2_000, "log_every_nimg": 1_280,
                  "checkpoint_every_nimg": 5_120, "mixed_precision": "bf16-if-native"},
        "denoiser": {"patch_size": 4, "hidden_size": 128, "depth": 4, "num_heads": 4},
    },
}  # fmt: skip
