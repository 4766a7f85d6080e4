"""What can be asked of videos and of sprites; importing this module does not import torch."""

from __future__ import annotations

from typing import Literal, Self

from goembed_core.config import Config
from pydantic import Field, model_validator

REACH = 0.2  # of the picture's side: how far an object extends from its centre, at most

Kind = Literal["left-right", "pendulum", "two", "occlusion"]


class SpritesConfig(Config):
    """Which procedural clips there are, and how their objects look and move."""

    kind: Literal["left-right", "pendulum", "two", "occlusion", "mixed"] = Field(
        "left-right",
        description="left-right = an object goes left or right; pendulum = it swings about a visible pivot, "
        "counter-clockwise or clockwise; two = two objects, each left or right; occlusion = one passes before "
        "another, which goes the other way; mixed = any of these. Each future has the same probability",
    )
    split: Literal["train", "test"] = Field("train", description="clips of one are never among those of the other")
    length: int = Field(10_000_000, ge=1, le=2**62, description="how many clips there are; every one is another")
    size: int = Field(32, ge=16, le=1024, description="side of the square frames")
    frames: int = Field(3, ge=2, le=64, description="of a clip: context (time 0), target (time 1), then those between")
    step_px: float = Field(6.0, gt=0, allow_inf_nan=False, description="how far an object goes from time 0 to time 1")
    jitter_px: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="`step_px` varies by up to this much, without a trace in the context",
    )
    textures: str = Field(
        "data",
        description="data = crops of the pictures and videos in the folder videos of the one that the environment "
        "variable GOEMBED_DATA names; noise = procedural; else a folder of one's own pictures and videos",
    )
    seed: int = Field(0, ge=0, description="of all clips")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        room = self.size * (0.5 - REACH)
        if self.step_px + self.jitter_px > room:
            raise ValueError(
                f"step_px + jitter_px is {self.step_px + self.jitter_px:g}, and at most {room:g} keeps an object "
                f"within frames of {self.size}; make them smaller, or `size` larger"
            )
        if self.jitter_px > self.step_px:
            raise ValueError(
                f"jitter_px={self.jitter_px:g} is more than step_px={self.step_px:g}: objects would turn back"
            )
        return self
