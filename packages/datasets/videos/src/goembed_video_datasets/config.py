"""What can be asked of videos and of sprites; importing this module does not import torch."""

from __future__ import annotations

from pathlib import Path
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


class VideosConfig(Config):
    """Which clips there are, and which pairs of frames are drawn from them."""

    path: Path | None = Field(
        None,
        description="Vimeo-90K as published, a folder of videos, a folder of folders of pictures, or one video; "
        "left out: the folder videos in the one that the environment variable GOEMBED_DATA names",
    )
    layout: Literal["auto", "videos", "frames", "vimeo90k"] = Field(
        "auto", description="what `path` holds; auto = Vimeo-90K by its lists, else videos, else pictures"
    )
    split: Literal["train", "test", "all"] = Field(
        "train", description="train leaves out what is held out, test has only that; Vimeo-90K has lists of its own"
    )
    holdout_clips: float = Field(
        0.1, ge=0, lt=1, description="share of the clips that are held out, chosen by their names; not of Vimeo-90K"
    )
    holdout_time: float = Field(
        0.0, ge=0, lt=1, description="share of every other clip that is held out, its end; not of Vimeo-90K"
    )
    size: int = Field(64, ge=1, le=8192, description="side of the square frames")
    crop: Literal["centre", "random"] = Field(
        "centre", description="centre = the largest square; random = one of half the shorter side or more, per item"
    )
    frames: int = Field(3, ge=2, le=64, description="of an item: context (time 0), target (time 1), then those between")
    window_frames: int = Field(6, ge=1, description="how many frames after the context the target may be, at most")
    window_s: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="in place of `window_frames`: how much later it may be, in seconds"
    )
    stride: int = Field(1, ge=1, description="frames from one context to the next")
    fps: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="frames a second of pictures, which `window_s` needs there"
    )
    cache: Literal["none", "memory"] = Field(
        "none",
        description="memory = every frame of the split is decoded once, when the set is opened, and kept cropped",
    )
    seed: int = Field(0, ge=0, description="of the frames that are drawn, and of random crops")
    index: Path | None = Field(
        None, description="a folder to keep what is known of each video in, so that it is looked through only once"
    )
    on_error: Literal["raise", "skip"] = Field(
        "raise",
        description="an unreadable clip: stop, or leave it out (decodes everything once when the set is opened)",
    )

    @model_validator(mode="after")
    def _window_holds_the_frames(self) -> Self:
        if self.window_s is None and self.window_frames < self.frames - 1:
            raise ValueError(
                f"frames={self.frames} do not fit in window_frames={self.window_frames}; expected "
                f"window_frames of {self.frames - 1} or more, or fewer frames"
            )
        if self.cache == "memory" and self.crop == "random":
            raise ValueError("cache=memory keeps frames as they are cropped, crop=random crops them anew; drop one")
        return self
