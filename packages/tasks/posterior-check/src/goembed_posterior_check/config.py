"""The settings of the posterior check; free of torch."""

from __future__ import annotations

from typing import Annotated, Any

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from pydantic import Field, PositiveInt


class LinearConfig(Config):
    """Linear projections of a vector."""

    dim: PositiveInt = Field(default=2, description="numbers of the signal")
    observed: PositiveInt = Field(default=1, description="numbers of an observation")


class ProjectionMLPConfig(Config):
    """A residual MLP on back-projected observations."""

    dim: PositiveInt = Field(default=2, description="numbers of the signal")
    hidden_size: PositiveInt = Field(default=256, description="width")
    depth: PositiveInt = Field(default=4, description="number of residual blocks")
    frequencies: PositiveInt = Field(default=32, description="sines, and as many cosines, that describe the timestep")


class EvaluateConfig(Config):
    """What is measured."""

    contexts: Annotated[int, Field(ge=2)] = Field(default=40, description="contexts of the distances")
    samples: Annotated[int, Field(ge=10)] = Field(default=1000, description="samples of each of them")
    coverage_contexts: Annotated[int, Field(ge=20)] = Field(default=2000, description="contexts of the calibration")
    coverage_samples: Annotated[int, Field(ge=10)] = Field(default=64, description="samples of each of those")
    study_contexts: Annotated[int, Field(ge=2)] = Field(default=20, description="contexts of the sampler study")
    study_samples: Annotated[int, Field(ge=10)] = Field(default=200, description="samples of each of those")
    steps: tuple[PositiveInt, ...] = Field(
        default=(4, 10, 20, 50, 250), description="evaluations of the denoiser in the sampler study; [] for none"
    )


class PosteriorCheckConfig(TaskConfig):
    """DFM's samples against exact posteriors of signals that are seen through projections alone."""

    task: str = Field(default="posterior_check", description="name of the task")
    train: TrainConfig = Field(default=TrainConfig(), description="the training")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), warmup_nimg=50_000, decay="cosine"),
        description="optimiser of every network",
    )
    mixture: ComponentConfig = component(
        "denoiser", "projection-mlp", description="network of the 2-D mixture seen through 1-D projections"
    )
    gaussian: ComponentConfig = component(
        "denoiser",
        "projection-mlp",
        params={"dim": 16},
        description="network of the 16-D Gaussian seen through 4-D projections",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(loss_weighting="snr", snr_cap=100.0), description="the noise schedule"
    )
    sampler: SamplerConfig = Field(default=SamplerConfig(num_steps=20), description="the sampler that is judged")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "train": {"images": 1_024_000, "batch_size": 512, "ema_halflife_nimg": 100_000, "log_every_nimg": 51_200,
                  "checkpoint_every_nimg": 1_024_000, "mixed_precision": "no"},
    },
}  # fmt: skip
