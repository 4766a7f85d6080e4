"""Settings of representations, decoders, forward models and fields; free of torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from goembed_core.config import Config
from goembed_nerf_renderer.config import FieldConfig, RendererConfig, SceneBox
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

Resolution = Annotated[int, Field(ge=1, le=1024)]


class TriplaneConfig(Config):
    """Three planes of features, `xy`, `xz` and `yz`."""

    resolution: Resolution = Field(default=32, description="cells along each side of the planes")
    channels: PositiveInt = Field(default=16, description="features of a cell")
    combine: Literal["sum", "concat"] = Field(
        default="sum", description="the features of the three planes are added up, or stand beside each other"
    )


class VoxelsConfig(Config):
    """A dense grid of features."""

    resolution: Annotated[int, Field(ge=1, le=256)] = Field(default=24, description="cells along each side")
    channels: PositiveInt = Field(default=16, description="features of a cell")


class FactoredConfig(Config):
    """Three planes, each with a line across it: the pairs stand beside each other."""

    resolution: Resolution = Field(default=32, description="cells along each side of planes and lines")
    channels: PositiveInt = Field(default=8, description="features of a plane and of its line")
    combine: Literal["product", "sum"] = Field(
        default="product",
        description="plane times line, whose origin is ones (a product has no gradient at zero), or plane plus line",
    )


class SirenConfig(Config):
    """The weights of a network of sines."""

    hidden_size: PositiveInt = Field(default=32, description="width")
    depth: PositiveInt = Field(default=2, description="layers between the first and the last")
    channels: PositiveInt = Field(default=16, description="features at a point")
    frequency: PositiveFloat = Field(default=10.0, description="what the argument of each sine is multiplied by")
    seed: NonNegativeInt = Field(
        default=0, description="of the origin, which is random and fixed: weights of zero have no gradient"
    )


class DecoderConfig(Config):
    """A small network from the feature at a point to density and colour."""

    hidden_size: PositiveInt = Field(default=64, description="width")
    depth: NonNegativeInt = Field(default=1, description="hidden layers")
    activation: Literal["silu", "elu", "softplus"] = Field(
        default="silu", description="after each hidden layer; smooth"
    )
    density_bias: float = Field(default=-1.0, description="added before the softplus that makes the density")
    density_scale: PositiveFloat = Field(default=5.0, description="what that softplus is multiplied by")
    position_frequencies: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0, description="octaves of sines of the position that the network is told beside the feature"
    )
    harmonics: Literal[0, 1] = Field(
        default=0, description="degree of the spherical harmonics of the colour; 0 is the same from all sides"
    )

    @field_validator("activation", mode="before")
    @classmethod
    def _has_a_gradient_at_zero(cls, value: Any) -> Any:
        if value in ("relu", "leaky_relu"):
            raise ValueError(
                f"{value} has a kink at zero, where the features of an origin are: no second derivative, and without "
                f"bias no gradient at all; take silu, elu or softplus"
            )
        return value


class FieldRendererConfig(RendererConfig):
    """The renderer without proposals, as an origin is alike everywhere."""

    proposal_samples: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(),
        max_length=4,
        description="evaluations of the field before that say where to sample, without gradient; none: evenly",
    )


class ModelConfig(Config):
    """A representation that is decoded and rendered."""

    box: SceneBox = Field(default=SceneBox(), description="where the representation is; there is nothing outside")
    decoder: DecoderConfig = Field(default=DecoderConfig(), description="from features to density and colour")
    renderer: FieldRendererConfig = Field(
        default=FieldRendererConfig(), description="the renderer, whose rays end at the box"
    )
    learned_origin: bool = Field(
        default=False,
        description="the origin is learned with the decoder, from the representation's own; its gradient then has no "
        "shortcut",
    )

    @model_validator(mode="after")
    def _rays_end_at_the_box(self) -> Self:
        if self.renderer.box is not None:
            raise ValueError(
                f"renderer.box={self.renderer.box}: rays end at the representation's box; give box instead"
            )
        if self.decoder.harmonics and not self.renderer.view_dependent:
            raise ValueError(
                f"decoder.harmonics={self.decoder.harmonics} needs the directions of the rays, but "
                f"renderer.view_dependent=false"
            )
        return self


class TriplaneModelConfig(TriplaneConfig, ModelConfig):
    """A triplane, decoded and rendered."""


class VoxelsModelConfig(VoxelsConfig, ModelConfig):
    """A grid of features, decoded and rendered."""


class FactoredModelConfig(FactoredConfig, ModelConfig):
    """Planes and lines, decoded and rendered."""


class SirenModelConfig(SirenConfig, ModelConfig):
    """A network of sines, decoded and rendered."""


class LearnedConfig(FieldConfig):
    """One scene: representation and decoder are learned together."""

    decoder: DecoderConfig = Field(
        default=DecoderConfig(density_bias=-3.0, density_scale=25.0, harmonics=1),
        description="from features to density and colour",
    )
    occupancy_cells: Annotated[int, Field(ge=1, le=512)] = Field(
        default=64, description="cells along the box's longest side that may be empty"
    )
    initial_spread: PositiveFloat = Field(
        default=0.1, description="standard deviation of the noise that is added to the origin before the training"
    )


class TriplaneFieldConfig(TriplaneConfig, LearnedConfig):
    """A triplane that is fitted to a scene."""

    resolution: Resolution = Field(default=128, description="cells along each side of the planes")


class VoxelsFieldConfig(VoxelsConfig, LearnedConfig):
    """A grid of features that is fitted to a scene."""

    resolution: Annotated[int, Field(ge=1, le=256)] = Field(default=64, description="cells along each side")


class FactoredFieldConfig(FactoredConfig, LearnedConfig):
    """Planes and lines that are fitted to a scene."""

    resolution: Resolution = Field(default=128, description="cells along each side of planes and lines")


class SirenFieldConfig(SirenConfig, LearnedConfig):
    """A network of sines that is fitted to a scene."""

    hidden_size: PositiveInt = Field(default=96, description="width")
