"""The settings of the ways to solve: noise schedule and sampler of a diffusion, stages of an inversion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from goembed_core.config.base import Config

SamplerName = Literal["ddim", "dpm-solver++", "unipc", "ddpm"]


class ScheduleConfig(Config):
    """The noise schedule of training."""

    num_timesteps: Annotated[int, Field(ge=2)] = Field(default=1000, description="T, the number of diffusion times")
    betas: Literal["squaredcos_cap_v2", "linear", "scaled_linear"] = Field(
        default="squaredcos_cap_v2", description="diffusers' name of the beta schedule; squaredcos_cap_v2 is the cosine"
    )
    loss_weighting: Literal["uniform", "snr"] = Field(
        default="uniform", description="weight of the loss over t: 1, or max(1, min(SNR(t), snr_cap))"
    )
    timestep_shift: PositiveFloat = Field(
        default=1.0,
        description="s of training's times t = T s u / (1 + (s - 1) u) with u uniform; above 1, noisy ones are drawn "
        "more often (Esser et al. 2024, eq. 23)",
    )
    snr_cap: PositiveFloat = Field(default=100.0, description="largest weight under loss_weighting=snr")


class SamplerConfig(Config):
    """How the reverse process is run."""

    name: SamplerName = Field(default="unipc", description="ddim, dpm-solver++, unipc, or ddpm (ancestral)")
    num_steps: PositiveInt = Field(default=10, description="evaluations of the denoiser")
    guidance_scale: NonNegativeFloat = Field(
        default=1.0, description="classifier-free guidance w; 1 is the conditional model alone"
    )
    threshold: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="dynamic thresholding: quantile of |O| that is scaled to 1; null for none"
    )
    temperature: PositiveFloat = Field(default=1.0, description="scale of the initial noise")


class Stage(Config):
    """One stage of an inversion: which variables move, how far and how long, and what each term of the loss weighs."""

    steps: PositiveInt = Field(default=60, description="Adam steps")
    lr: PositiveFloat = Field(default=0.02, description="learning rate, in the units of the variables")
    variables: tuple[str, ...] = Field(default=(), description="names of the variables that move; empty for all")
    weights: dict[str, float] = Field(default={}, description="weight of each term; a term that is not named weighs 1")
    rampdown: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.25, description="last fraction of the steps, over which lr falls to 0 as a cosine"
    )
