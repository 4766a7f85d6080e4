"""The settings of GAN inversion; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_core.config.solvers import SamplerConfig, ScheduleConfig, Stage
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

Side = Annotated[float, Field(gt=0, le=1)]


class PatchConfig(Config):
    """The visible patch: a rectangle of varying size and place."""

    min_side: Side = Field(default=0.25, description="shortest side of the patch, as a fraction of the image's side")
    max_side: Side = Field(default=0.5, description="longest side of the patch, as a fraction of the image's side")

    @model_validator(mode="after")
    def _check(self) -> PatchConfig:
        if self.min_side > self.max_side:
            raise ValueError(f"min_side={self.min_side} is larger than max_side={self.max_side}")
        return self


class LatentConfig(Config):
    """What the network gives, and how it becomes w."""

    space: Literal["w", "w+", "z", "z+"] = Field(
        default="z",
        description="w; one w a layer; z, which the generator's mapping makes w; or z and an offset from its w",
    )
    norm_penalty: NonNegativeFloat = Field(
        default=0.01, description="z, z+: weight of (mean z^2 - 1)^2, as the mapping sees the direction of z alone"
    )
    offset_penalty: NonNegativeFloat = Field(
        default=0.05, description="z+: weight of the mean squared offset, in standard deviations of w"
    )


class RefineConfig(Stage):
    """Refinement: a sample is the start of an optimisation of its latent against the visible patch."""

    steps: NonNegativeInt = Field(default=60, description="Adam steps; 0 for no refinement")
    lr: PositiveFloat = Field(default=0.1, description="learning rate, in standard deviations of w")
    prior: NonNegativeFloat = Field(
        default=3e-3, description="weight of the squared distance from the sample, in standard deviations of w"
    )


class EvaluateConfig(Config):
    """What is measured, and on how many contexts; the time of an evaluation is about proportional to them."""

    contexts: Annotated[int, Field(ge=2)] = Field(default=2000, description="contexts of the distances and the PSNR")
    refined_contexts: PositiveInt | None = Field(
        default=None, description="contexts that are refined too; null for all of them"
    )
    posterior_contexts: PositiveInt = Field(default=50, description="contexts of the posterior check")
    posterior_samples: Annotated[int, Field(ge=2)] = Field(default=200, description="samples of each of those")
    refined_posterior_contexts: NonNegativeInt = Field(
        default=10, description="how many of them are refined too, all samples of each; 0 for none"
    )
    posterior_pool: Annotated[int, Field(ge=10)] = Field(
        default=50_000, description="generator samples among which those nearest to the patch stand for the posterior"
    )
    steps: tuple[PositiveInt, ...] = Field(
        default=(5, 10, 20, 50), description="steps of the sampler study; [] for none"
    )
    steps_contexts: Annotated[int, Field(ge=2)] = Field(default=2000, description="contexts of the sampler study")
    pictures: PositiveInt = Field(default=16, description="contexts that the report shows")
    batch_size: PositiveInt = Field(default=250, description="signals evaluated together")
    features: ComponentConfig = component(
        "feature-network", "fashion-classifier", description="features of the distances; its classes, of the histograms"
    )


class GANInversionConfig(TaskConfig):
    """Sample the latents of a GAN whose images agree with a visible patch (DFM §4.3)."""

    task: str = Field(default="gan_inversion", description="name of the task")
    train: TrainConfig = Field(default=TrainConfig(), description="the training")
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(
            lr=1.5e-3,
            betas=(0.9, 0.99),
            warmup_nimg=1_000,
            decay="cosine",
            muon_lr=0.02,
            muon_modules=("qkv", "attention_out", "mlp_in", "mlp_out"),
        ),
        description="optimiser of the denoiser and of the baseline",
    )
    forward_model: ComponentConfig = component("forward-model", "stylegan", params={"weights": "fashion32"})
    denoiser: ComponentConfig = component(
        "denoiser",
        "dit",
        params={"in_channels": 3, "height": 32, "width": 32, "head": "vector", "vector_dim": 64, "head_std": 0.02},
        description="the network; its input is context, mask and noisy target, its output the latent",
    )
    initial: Path | None = Field(
        default=None, description="model directory (RUN/model) whose networks training starts from; null for new ones"
    )
    latent: LatentConfig = Field(default=LatentConfig(), description="the space of the signal")
    truncation_psi: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="truncation of the generator samples that are the data"
    )
    patch: PatchConfig = Field(default=PatchConfig(), description="the visible patch")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="the noise schedule")
    context_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of contexts that training hides, for classifier-free guidance"
    )
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="the sampler of previews and evaluation")
    refine: RefineConfig = Field(default=RefineConfig(), description="the refinement that evaluation measures")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


class SampleConfig(Config):
    """What `goembed sample` of GAN inversion can be told."""

    task: str = Field(default="gan_inversion", description="name of the task")
    image: Path | None = Field(default=None, description="an image file; null for images of the generator")
    box: str | tuple[NonNegativeInt, NonNegativeInt, PositiveInt, PositiveInt] | None = Field(
        default=None, description="x,y,width,height of the visible patch in pixels of the generator's image"
    )
    num_images: PositiveInt = Field(default=4, description="generator images to look at when no image is given")
    num_samples: PositiveInt = Field(default=16, description="samples of each context")
    seed: NonNegativeInt = Field(default=0, description="seed of all random numbers")
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="the sampler")
    refine: RefineConfig = Field(default=RefineConfig(steps=0), description="refinement of the samples")
    out: Path | None = Field(default=None, description="folder of the pictures; null for RUN/samples or ./samples")

    @model_validator(mode="after")
    def _check(self) -> SampleConfig:
        if isinstance(self.box, str):
            parts = self.box.split(",")
            if len(parts) != 4 or not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
                raise ValueError(f"box={self.box!r} is not of the form x,y,width,height in whole pixels")
            box = tuple(int(part) for part in parts)
            if 0 in box[2:]:
                raise ValueError(f"box={self.box!r} is empty: expected a width and a height of at least 1")
            object.__setattr__(self, "box", box)
        return self


_QUICK: dict[str, Any] = {
    "train": {"images": 80_000, "batch_size": 64, "ema_halflife_nimg": 4_000, "checkpoint_every_nimg": 25_600,
              "log_every_nimg": 1_280, "preview_every_nimg": 25_600, "mixed_precision": "bf16-if-native"},
    "denoiser": {"patch_size": 8, "hidden_size": 192, "depth": 4, "num_heads": 3},
    "evaluate": {"refined_contexts": 128, "refined_posterior_contexts": 1, "steps_contexts": 200},
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "quick": _QUICK,
    # The embedded model's: the same, longer.
    "embedded": _QUICK
    | {
        "train": _QUICK["train"] | {"images": 448_000, "ema_halflife_nimg": 20_000, "preview_every_nimg": 102_400},
        "evaluate": {"refined_contexts": 500, "refined_posterior_contexts": 2, "steps_contexts": 500},
    },
    # DFM supplement 2.3: FFHQ at 256 from weights given by path, trained at 64, psi = 0.5, Adam 2e-5, batch 4.
    "paper": {
        "train": {"images": 4_000_000, "batch_size": 4, "ema_halflife_nimg": 10_000, "preview_every_nimg": 50_000,
                  "clip_norm": 1.0, "checkpoint_every_nimg": 20_000},
        "optimizer": {"lr": 2e-5, "betas": [0.9, 0.99], "warmup_nimg": 4_000, "decay": "constant", "muon_lr": None},
        "forward_model": {"weights": "ffhq256.safetensors", "resolution": 64},
        "denoiser": {"size": "XL", "patch_size": 2, "in_channels": 7, "height": 64, "width": 64, "vector_dim": 512},
        "truncation_psi": 0.5,
        "sampler": {"name": "ddim", "num_steps": 50},
        "evaluate": {"features": {"name": "inception"}, "batch_size": 16},
    },
}  # fmt: skip
