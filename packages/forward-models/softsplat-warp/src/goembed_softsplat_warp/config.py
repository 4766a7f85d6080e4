"""Settings of the forward model; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from goembed_core.config import Config
from pydantic import Field, PositiveInt

HolePolicy = Literal["pull-push", "source", "zero"]


class SoftsplatWarpConfig(Config):
    """The forward model `warp((colour, motion, metric), time)`."""

    holes: HolePolicy = Field(
        default="pull-push",
        description="seen where nothing lands: neighbours (pull-push), the unmoved colour (source) or mid-grey (zero)",
    )
    full_coverage: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.25, description="coverage from which a pixel counts as hit; below it, what fills holes is blended in"
    )
    channels: PositiveInt = Field(default=3, description="colour channels of the origin and the example")
    height: PositiveInt = Field(default=64, description="height of the origin and the example, in pixels")
    width: PositiveInt = Field(default=64, description="width of the origin and the example, in pixels")
