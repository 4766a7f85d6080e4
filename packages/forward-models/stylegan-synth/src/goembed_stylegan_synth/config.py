"""Settings of the networks, the forward model and the training; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from goembed_core.config import Config
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

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
