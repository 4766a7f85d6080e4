"""Settings of gradient-origin embeddings; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from goembed_core.config import ComponentConfig, Config, component
from pydantic import Field, PositiveFloat, PositiveInt, model_validator


class EncodingConfig(Config):
    """How observations are encoded through a forward model that is at hand."""

    steps: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1, description="gradient steps, each from where the last one came to, with a scale of its own"
    )
    scale: Literal["learned", "none"] = Field(
        default="learned",
        description="learned: each channel is divided by its root mean square in the first batch of training, which is "
        "stored, and multiplied by a learned gain; none: the gradient itself",
    )
    scale_dims: tuple[PositiveInt, ...] = Field(
        default=(1,), description="dimensions of the signal's leaves (B, ...) whose every index has a scale of its own"
    )
    gain: PositiveFloat = Field(default=1.0, description="the gain that each step begins with")
    leaf_gain: dict[str, PositiveFloat] = Field(
        default={},
        description="leaves of the signal, by their names, whose gain begins with another number, and is learned as a "
        "multiple of it: those of one signal may be of very different sizes, as a network's weights are",
    )
    timesteps: PositiveInt | None = Field(
        default=None,
        description="T of the schedule that may have noised the observations, on whose time the scale then depends; "
        "null for clean ones",
    )
    views: Literal["sum", "mean"] = Field(
        default="sum", description="the errors of a signal's observations are added up, or their mean is taken"
    )
    detach: bool = Field(
        default=False, description="training does not differentiate the gradient, for comparison: only its scale learns"
    )
    chunk_views: PositiveInt | None = Field(
        default=None,
        description="observations of a signal that are held at a time, computed again for the gradient; null for all",
    )

    @model_validator(mode="after")
    def _these_need_a_scale(self) -> Self:
        if self.timesteps is not None and self.scale == "none":
            raise ValueError(f"timesteps={self.timesteps} with scale=none: time acts on the scale, take scale=learned")
        if self.leaf_gain and self.scale == "none":
            raise ValueError(f"leaf_gain={self.leaf_gain} with scale=none: there is no gain, take scale=learned")
        return self


class GOEmbedConfig(EncodingConfig):
    """A gradient-origin encoder with a forward model of its own."""

    forward_model: ComponentConfig = component(
        "forward-model", description="the forward model, which has an origin; it is trained with the encoder"
    )
