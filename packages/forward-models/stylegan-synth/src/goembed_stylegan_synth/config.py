"""Settings of the networks, the forward model and the training; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

EMBEDDED_WEIGHTS = ("fashion32",)


def _power_of_two(value: int) -> int:
    if not 8 <= value <= 1024 or value & (value - 1):
        raise ValueError("expected a power of two from 8 to 1024")
    return value


Side = Annotated[int, AfterValidator(_power_of_two)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class GeneratorConfig(Config):
    """A StyleGAN2 generator; the defaults are those of the published 256² networks."""

    resolution: Side = Field(default=256, description="side of the images in pixels")
    img_channels: Literal[1, 3] = Field(default=3, description="1 for grey, 3 for colour")
    z_dim: PositiveInt = Field(le=4096, default=512, description="size of the latent z")
    w_dim: PositiveInt = Field(le=4096, default=512, description="size of the latent w")
    mapping_layers: PositiveInt = Field(le=64, default=8, description="fully connected layers from z to w")
    channel_base: PositiveInt = Field(default=16384, description="channels at a side: channel_base / side, …")
    channel_max: PositiveInt = Field(le=4096, default=512, description="… but no more than this")
    conv_clamp: PositiveFloat | None = Field(default=256, description="features are kept within ± this; null for free")
    num_low_precision: NonNegativeInt = Field(default=4, description="highest resolutions that run in autocast's dtype")


class DiscriminatorConfig(Config):
    """A StyleGAN2 discriminator; the images are those of the generator."""

    channel_base: PositiveInt = Field(default=16384, description="channels at a side: channel_base / side, …")
    channel_max: PositiveInt = Field(le=4096, default=512, description="… but no more than this")
    conv_clamp: PositiveFloat | None = Field(default=256, description="features are kept within ± this; null for free")
    mbstd_group_size: PositiveInt = Field(default=4, description="items whose diversity is one feature; 1 for none")
    num_low_precision: NonNegativeInt = Field(default=4, description="highest resolutions that run in autocast's dtype")


class SynthesisConfig(Config):
    """The forward model `synthesize(w, box)`."""

    weights: str = Field(
        default="fashion32", min_length=1, description="fashion32 (part of the package) or a safetensors file"
    )
    resolution: Side | None = Field(
        default=None, description="side of the observation, averaged down from the generator's; null for the same"
    )
    noise: Literal["const", "none"] = Field(default="const", description="the network's own fixed noise, or no noise")
    truncation_psi: Fraction = Field(default=1.0, description="how far sampled latents keep from the mean w, at most 1")


class AugmentConfig(Config):
    """Augmentation of what the discriminator sees, real and generated alike."""

    target: Fraction | None = Field(default=0.6, description="E[sign D(real)] that p aims at; null keeps p as it is")
    p: Fraction = Field(default=0.0, description="probability of each transform at the start")
    speed_nimg: PositiveInt = Field(default=500_000, description="images in which p could go from 0 to 1")
    flip: bool = Field(default=True, description="mirror left and right")
    rotate90: bool = Field(default=True, description="turn by multiples of 90 degrees")
    translate: bool = Field(default=True, description="shift by whole pixels")
    geometry: bool = Field(default=True, description="scale, turn, stretch and shift by any amount")
    colour: bool = Field(default=True, description="brightness, contrast, inversion, hue and saturation")


class LossConfig(Config):
    """The losses of both players; regularisers are lazy, computed in every n-th step only."""

    r1_gamma: NonNegativeFloat = Field(default=1.0, description="weight of R1; 0 for none")
    r1_every: PositiveInt = Field(default=16, description="steps between R1 phases")
    path_length_weight: NonNegativeFloat = Field(default=2.0, description="weight of the path length; 0 for none")
    path_length_every: PositiveInt = Field(default=4, description="steps between path length phases")
    style_mixing: Fraction = Field(default=0.9, description="probability of two latents in one image")
    noise: Literal["random", "none"] = Field(default="random", description="noise in the generator while it trains")
    share_fakes: bool = Field(
        default=False, description="the discriminator judges the images of the generator's own move: a synthesis saved"
    )


class EvaluateConfig(Config):
    """How the generator is judged."""

    images: PositiveInt = Field(default=10_000, description="generated images, and at most as many real ones")
    batch_size: PositiveInt = Field(default=64, description="images at a time")
    features: ComponentConfig = component(
        "feature-network", "fashion-classifier", description="network whose features the distances are measured in"
    )
    intervals: NonNegativeInt = Field(default=20, description="bootstrap resamples of each distance; 0 for none")


class SampleConfig(Config):
    """`goembed sample`: a grid of images."""

    rows: PositiveInt = Field(default=4, description="rows of the grid")
    columns: PositiveInt = Field(default=8, description="columns of the grid")
    truncation_psi: Fraction = Field(default=0.7, description="how far latents keep from the mean, at most 1")
    seed: NonNegativeInt = Field(default=0, description="seed of the latents")
    out: Path = Field(default=Path("samples"), description="folder of the pictures, where there is no run")


class StyleGAN2Config(TaskConfig):
    """Training of a StyleGAN2; resolution and channels of the images are the generator's."""

    train: TrainConfig = Field(
        default=TrainConfig(
            images=25_000_000,
            batch_size=64,
            clip_norm=None,
            ema_halflife_nimg=20_000,
            mixed_precision="bf16-if-native",
            preview_every_nimg=50_000,
            checkpoint_every_nimg=50_000,
        ),
        description="the training",
    )
    dataset: ComponentConfig = component("dataset", "images", params={"resolution": 32})
    generator: GeneratorConfig = Field(default=GeneratorConfig(), description="the generator")
    discriminator: DiscriminatorConfig = Field(default=DiscriminatorConfig(), description="the discriminator")
    losses: LossConfig = Field(default=LossConfig(), description="the losses")
    augment: AugmentConfig = Field(default=AugmentConfig(), description="augmentation for the discriminator")
    generator_optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=0.0025, betas=(0.0, 0.99)), description="the generator's optimiser"
    )
    discriminator_optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(lr=0.0025, betas=(0.0, 0.99)), description="the discriminator's optimiser"
    )
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="the evaluation")


# Fashion-MNIST has 60,000 images, enough to do without augmentation; ten kinds of things do not mix.
_FASHION32: dict[str, Any] = {
    "dataset": {"name": "images", "resolution": 32, "channels": 1},
    "generator": {
        "resolution": 32,
        "img_channels": 1,
        "z_dim": 64,
        "w_dim": 64,
        "mapping_layers": 4,
        "channel_base": 1024,
        "channel_max": 128,
        "conv_clamp": None,
    },
    "discriminator": {"channel_base": 512, "channel_max": 128, "conv_clamp": None},
    "losses": {"r1_gamma": 0.1, "path_length_weight": 0, "style_mixing": 0, "noise": "none", "share_fakes": True},
    "augment": {"target": None},
    "train": {"images": 4_000_000, "batch_size": 32, "ema_halflife_nimg": 15_000},
}

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        **_FASHION32,
        "train": {**_FASHION32["train"], "images": 50_000, "preview_every_nimg": 10_000, "ema_halflife_nimg": 2_000},
        "evaluate": {"images": 1_000, "intervals": 0},
    },
    "fashion32": _FASHION32,
    "paper256": {
        "dataset": {"name": "images", "resolution": 256, "channels": 3, "xflip": True},
        "generator": {"resolution": 256},
        "discriminator": {"mbstd_group_size": 8},
        "evaluate": {"images": 50_000, "features": {"name": "inception"}},
    },
}
