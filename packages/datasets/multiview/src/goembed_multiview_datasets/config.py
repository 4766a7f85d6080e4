"""What can be asked of posed views; importing this module does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from goembed_core.config import ComponentConfig, Config, component
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

Side = Annotated[int, Field(ge=1, le=8192)]
Split = Literal["train", "val", "test", "all"]
Distances = tuple[PositiveFloat, PositiveFloat]


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
    near_far: Distances | None = Field(
        None, description="distances from the camera between which the scene lies; null = what the layout says"
    )
    on_missing: Literal["raise", "skip"] = Field(
        "raise",
        description="a scene with fewer views than are asked for, in RealEstate10k also frames that are not there: "
        "stop, or leave it out",
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
    near_far: Distances | None = Field(
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


class OmniObjectConfig(ViewsConfig):
    """OmniObject3D's renderings by Blender: objects within [-1, 1], cameras at a distance of 4."""

    path: Path | None = Field(
        None, description="the folder of the renderings, with its categories; one of these; or that of one object"
    )
    split: Literal["train", "test", "all"] = Field("all", description="of the objects, by `holdout`")
    holdout: int = Field(
        10, ge=2, description="every so manieth object of the whole set is the split test, the first one included"
    )
    categories: tuple[str, ...] | None = Field(
        None, description="these alone; which objects are held out does not hang on it; null = all"
    )
    packed: bool = Field(
        False, description="keep all pixels and cameras in one file beside the folder, made anew when its files change"
    )
    near_far: Distances | None = Field(
        None,
        description="distances from the camera between which the scene lies; null = near and far of transforms.json, "
        "else 2 and 6",
    )


class RenderMeshesConfig(Config):
    """Which meshes are rendered, from where, and how."""

    folder: Path = Field(
        description="with GLB, OBJ or PLY files, or with the zips of the furniture or aircraft of GOEMBED_DATA"
    )
    out: Path = Field(description="the folder that is written; an interrupted run goes on there")
    views: int = Field(24, ge=1, le=10_000, description="of each object")
    size: int = Field(64, ge=8, le=4096, description="side of the square images, in pixels")
    views_on: Literal["hemisphere", "sphere"] = Field(
        "hemisphere", description="where the cameras stand at random: above the object, or all around it"
    )
    samples: int = Field(5, ge=1, le=15, description="so many by so many rays make a pixel; odd")
    shading: Literal["soft", "unlit"] = Field(
        "soft", description="one light that is fixed in the world, or the bare colours; both look alike from everywhere"
    )
    up: Literal["y", "z"] | None = Field(
        None, description="the axis of the meshes that is up; null = z of PLY, y of all others"
    )
    categories: tuple[str, ...] | None = Field(None, description="these alone; null = all")
    limit: PositiveInt | None = Field(None, description="only the first so many objects; null = all")
    workers: int = Field(1, ge=1, le=256, description="processes; the pictures are the same for any number")
    seed: int = Field(0, ge=0, description="of the places of the cameras")

    @model_validator(mode="after")
    def _has_a_middle(self) -> Self:
        if self.samples % 2 == 0:
            raise ValueError(f"samples={self.samples}: expected an odd number, so that one ray meets a pixel's centre")
        return self


class SrnConfig(ViewsConfig):
    """Cars and chairs of Scene Representation Networks."""

    path: Path | None = Field(None, description="the folder that holds cars_train and its like, or one of these")
    split: Literal["train", "val", "test"] = Field("train", description="the folder whose name ends in it")
    near_far: Distances | None = Field(
        None, description="distances from the camera between which the scene lies; null = those of cars and of chairs"
    )


class Co3dConfig(ViewsConfig):
    """CO3D's sequences, as its first and its second version have them."""

    path: Path | None = Field(
        None, description="the folder with the categories, or one of these: with frame_annotations.jgz"
    )
    split: Split = Field("train", description="by `set_list`; all needs none")
    set_list: str = Field(
        "fewview_dev", description="which of the category's lists says what the splits are: set_lists_fewview_dev.json"
    )
    sequences: PositiveInt | None = Field(
        None, description="so many of each category, those with the best cameras; null = all"
    )
    masks: bool = Field(False, description="what is not of the object is transparent")
    near_far: Distances | None = Field(
        None,
        description="distances from the camera between which the scene lies; null = 8 before and behind the origin, "
        "and at least 0.1",
    )


class RealEstateConfig(ViewsConfig):
    """RealEstate10k's camera files, with frames from a folder or from local videos."""

    path: Path | None = Field(None, description="the folder with train/ and test/, or one of files <clip>.txt")
    split: Literal["train", "test", "all"] = Field("train", description="a folder of `path`, where it has such")
    frames: Path | None = Field(
        None, description="the folder with <clip>/<timestamp>.png or .jpg, or with these in train/ and test/"
    )
    videos: Path | None = Field(None, description="in place of `frames`: the folder with <id of the video>.mp4 or .mkv")
    index: Path | None = Field(
        None, description="a folder to keep what is known of each video in, so that it is looked through only once"
    )
    near_far: Distances = Field((0.7, 10.0), description="distances from the camera between which the scene lies")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.frames is None) == (self.videos is None):
            raise ValueError("frames come from one place: set `frames` or `videos`, and not both")
        return self


class BoxesConfig(Config):
    """Which procedural scenes there are."""

    size: int = Field(32, ge=4, le=1024, description="side of the square images")
    views: int = Field(3, ge=2, le=64, description="of a scene: the context, then others all around it")
    boxes: int = Field(1, ge=1, le=4, description="in a scene, each with a hidden face of its own")
    background: Literal["white", "black"] = Field("white", description="what lies behind the boxes")
    jitter_rad: float = Field(
        0.3, ge=0, le=3.15, description="how far the other views' azimuths lie from even ones, at most; π is anywhere"
    )
    split: Literal["train", "test"] = Field("train", description="scenes of one are never among those of the other")
    length: int = Field(10_000_000, ge=1, le=2**62, description="how many scenes there are; every one is another")
    seed: int = Field(0, ge=0, description="of all scenes")


class CheckCamerasConfig(Config):
    """What is looked at, and where the page is written."""

    dataset: ComponentConfig = component("dataset", description="posed views, and their settings")
    item: int = Field(0, ge=0, description="which item of it")
    view: int = Field(0, ge=0, description="which of its views the others are compared with")
    others: int = Field(3, ge=1, le=8, description="how many views it is compared with, the nearest ones")
    out: Path = Field(Path("cameras.html"), description="the page that is written")
