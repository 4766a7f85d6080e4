"""Settings of the renderer; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from goembed_core.config import Config
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

Vector = tuple[float, float, float]
Samples = Annotated[int, Field(ge=1, le=4096)]


class SceneBox(Config):
    """A box in world coordinates that holds all that is to be seen."""

    low: Vector = Field(default=(-1.0, -1.0, -1.0), description="its smallest x, y and z")
    high: Vector = Field(default=(1.0, 1.0, 1.0), description="its largest x, y and z")

    @model_validator(mode="after")
    def _has_a_volume(self) -> Self:
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low={self.low} is not below high={self.high} in every coordinate")
        return self


class FieldConfig(Config):
    """Where a field is, and what of it is empty."""

    box: SceneBox | None = Field(
        default=None, description="where the field is; task=fit_scene fills in the scene's box"
    )
    frame: tuple[float, ...] | None = Field(
        default=None,
        min_length=16,
        max_length=16,
        description="world to camera, 4 x 4 by rows, where the box is in its (x/z, y/z, -1/z); null: in the world",
    )
    min_depth: PositiveFloat = Field(
        default=1e-2, description="a cell is empty below this optical depth across it, everywhere in it"
    )


class RendererConfig(Config):
    """Where rays are sampled, what is behind them, and how much is held at a time."""

    near: NonNegativeFloat = Field(default=0.1, description="distance from the camera at which rays begin")
    far: PositiveFloat = Field(default=6.0, description="distance from the camera at which rays end")
    box: SceneBox | None = Field(default=None, description="rays begin and end at this box, within near and far")
    samples: Samples = Field(default=64, description="samples of the field on a ray that make its colour")
    proposal_samples: tuple[Samples, ...] = Field(
        default=(64,),
        max_length=4,
        description="samples of each proposal before that; without a proposal, of the field itself, without gradient",
    )
    padding: PositiveFloat = Field(
        default=0.01, description="share of the samples that go anywhere, whatever the proposal says"
    )
    sharpness: PositiveFloat = Field(
        default=0.5, le=1, description="samples go where a proposal's weights are, to this power; 1 as in NeRF"
    )
    spacing: Literal["linear", "disparity"] = Field(
        default="linear", description="samples are spread evenly in distance, or in one over the distance"
    )
    background: Literal["black", "white", "learned"] = Field(default="black", description="what lies behind the field")
    view_dependent: bool = Field(default=True, description="the field is told the directions of the rays")
    chunk_points: PositiveInt | None = Field(
        default=None,
        description="points of the field held at a time, computed again for the gradient; null for all at once",
    )
    min_transmittance: NonNegativeFloat = Field(
        default=0.0,
        lt=1,
        description="where no gradient is wanted, rays end when less light than this comes through; 0 for never",
    )

    @model_validator(mode="after")
    def _near_is_before_far(self) -> Self:
        if self.near >= self.far:
            raise ValueError(f"near={self.near} is not below far={self.far}")
        if self.spacing == "disparity" and self.near == 0:
            raise ValueError("spacing=disparity needs near > 0, got near=0")
        return self
