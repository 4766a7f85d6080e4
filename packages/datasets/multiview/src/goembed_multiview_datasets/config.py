"""What can be asked of posed views; importing this module does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from goembed_core.config import Config
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

Side = Annotated[int, Field(ge=1, le=8192)]
Split = Literal["train", "val", "test", "all"]


class ViewsConfig(Config):
    """What every set of posed views can be asked."""

    path: Path | None = Field(None, description="the folder of a scene, or one of scenes")
    size: Side | tuple[Side, Side] | None = Field(
        None,
        description="of the images: a side, or [width, height]; the largest centred part of that shape is resized by "
        "area, and its camera with it; null = whole images as they are stored",
    )
    background: Literal["white", "black"] = Field("white", description="what transparent pixels lie on")
    views: PositiveInt | None = Field(
        None, description="how many views of its scene an item has, drawn by its number; null = all of them, in order"
    )
    window: PositiveInt | None = Field(
        None, description="an item's views are drawn from so many consecutive ones; null = from all"
    )
    draws: PositiveInt = Field(1, description="items of each scene, which differ in the views that are drawn")
    near_far: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None, description="distances from the camera between which the scene lies; null = what the layout says"
    )
    seed: int = Field(0, ge=0, description="of the views that are drawn")

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if self.views is None and (self.draws > 1 or self.window is not None):
            raise ValueError("draws and window are about `views` that are drawn; set `views`, or drop them")
        if self.window is not None and self.views is not None and self.window < self.views:
            raise ValueError(f"views={self.views} do not fit in window={self.window}; make the window larger")
        if self.near_far is not None and self.near_far[0] >= self.near_far[1]:
            raise ValueError(f"near_far={list(self.near_far)}: expected the nearer distance first")
        return self


class BlenderConfig(ViewsConfig):
    """Scenes with a `transforms.json`, or one for each split."""

    path: Path | None = Field(
        None,
        description="the folder of a scene, its transforms.json, or a folder of scenes; left out: nerf_lego in the "
        "folder that the environment variable GOEMBED_DATA names",
    )
    split: Split = Field("train", description="by transforms_train.json and its like; else by `holdout`")
    holdout: int = Field(
        8, ge=2, description="where there is a single transforms.json, every so manieth frame is the split test"
    )
    near_far: tuple[PositiveFloat, PositiveFloat] | None = Field(
        (2.0, 6.0), description="distances from the camera between which the scene lies; NeRF-synthetic's by default"
    )

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        if self.near_far is None:
            raise ValueError("near_far=null: this layout does not say how far its scenes are; give two distances")
        return self


class LlffConfig(ViewsConfig):
    """Scenes with a `poses_bounds.npy`."""

    path: Path | None = Field(
        None,
        description="the folder of a scene, or one of scenes; left out: llff_fern in the folder that the environment "
        "variable GOEMBED_DATA names",
    )
    split: Literal["train", "test", "all"] = Field("train", description="by `holdout`")
    holdout: int = Field(8, ge=2, description="every so manieth view, the first one included, is the split test")
    factor: PositiveInt = Field(
        8, description="whole images, so many times smaller: those of the folder images_8, or made from those of images"
    )
