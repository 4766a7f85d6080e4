"""The settings of the posterior check; free of torch."""

from __future__ import annotations

from typing import Annotated, Any

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt


class LinearConfig(Config):
    """Linear projections of a vector."""

    dim: PositiveInt = Field(default=2, description="numbers of the signal")
    observed: PositiveInt = Field(default=1, description="numbers of an observation")


class ProjectionMLPConfig(Config):
    """A residual MLP around the posterior mean of a standard normal signal."""

    dim: PositiveInt = Field(default=2, description="numbers of the signal")
    hidden_size: PositiveInt = Field(default=128, description="width")
    depth: PositiveInt = Field(default=2, description="number of residual blocks")
    time_frequencies: PositiveInt = Field(default=32, description="sines, and as many cosines, of the timestep")
    fourier_features: NonNegativeInt = Field(default=32, description="sines, and as many cosines, of the mean")
    fourier_scale: PositiveFloat = Field(
        default=4.0,
        description="their standard deviation in radians a unit of the signal: the finest detail is about 1/scale",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(), description="the schedule that noises its target: tells noise levels from timesteps"
    )


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
        default=OptimizerConfig(lr=6e-3, betas=(0.9, 0.99), warmup_nimg=50_000, decay="cosine"),
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
    gaussian_every: PositiveInt = Field(
        default=4,
        description="steps of the mixture's networks to one of the Gaussian's, which are easier and cost more",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(loss_weighting="snr", snr_cap=4.0), description="the noise schedule"
    )
    sampler: SamplerConfig = Field(default=SamplerConfig(num_steps=20), description="the sampler that is judged")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "train": {"images": 4_096_000, "batch_size": 2048, "ema_halflife_nimg": 100_000, "log_every_nimg": 204_800,
                  "checkpoint_every_nimg": 4_096_000, "mixed_precision": "no"},
    },
}  # fmt: skip
