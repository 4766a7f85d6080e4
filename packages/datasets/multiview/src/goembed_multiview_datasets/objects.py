"""Renderings of single objects: OmniObject3D's by Blender, and the cars and chairs of SRN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera, make_intrinsics, resize_camera
from jaxtyping import Float
from torch import Tensor

from goembed_multiview_datasets.blender import Frame, camera_of, entries, read_json
from goembed_multiview_datasets.config import OmniObjectConfig, SrnConfig
from goembed_multiview_datasets.packed import PackedSource
from goembed_multiview_datasets.pictures import find_picture, pictures_of, read_rgba, require_aspect
from goembed_multiview_datasets.scenes import SceneDataset, View, located

OBJECTS = "objects.json"  # beside the categories: all objects in their order
NEAR_FAR = (2.0, 6.0)
SRN_NEAR_FAR = {"cars": (0.8, 1.8), "chairs": (1.25, 2.75)}


def omniobject3d(config: OmniObjectConfig) -> SceneDataset:
    """The dataset `omniobject3d`."""
    source = OmniObjectSource(config)
    return SceneDataset(PackedSource(source) if config.packed else source, config)


def srn(config: SrnConfig) -> SceneDataset:
    """The dataset `srn`."""
    return SceneDataset(SrnSource(config), config)


class OmniObjectSource:
    """`<category>/<object>/render/transforms.json`, with the images that it names in `render/images`."""

    def __init__(self, config: OmniObjectConfig):
        expected = "the folder of OmniObject3D's blender renders, one of its categories, or an object"
        self.root = located(config.path, None, expected)
        self.files = _transforms(self.root)
        if not self.files:
            raise UserError(f"{self.root}: holds no <object>/render/transforms.json; give `path` {expected}")
        numbers = _numbers_of(self.root, self.files)
        self.chosen = [
            place
            for place, file in enumerate(self.files)
            if (config.categories is None or _category(file) in config.categories)
            and (config.split == "all" or (numbers[place] % config.holdout == 0) == (config.split == "test"))
        ]
        there = sorted({_category(file) for file in self.files})
        for category in config.categories or ():
            if category not in there:
                raise UserError(f"{self.root}: has no category {category}, but {', '.join(there)}; ask for these")
        if not self.chosen:
            raise UserError(f"{self.root}: holds {len(self.files)} objects, none of them of the split {config.split}")
        self._near_far = config.near_far
        self._frames: dict[int, list[Frame]] = {}
        self.names = [self.files[place].absolute().parent.parent.name for place in self.chosen]

    def count(self, scene: int) -> int:
        """How many views an object has."""
        return len(self.frames(self.chosen[scene]))

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some views of an object."""
        frames = self.frames(self.chosen[scene])
        return [self._view(*frames[view]) for view in views]

    def frames(self, place: int) -> list[Frame]:
        """The frames of one of `files`."""
        if place not in self._frames:
            self._frames[place] = entries(self.files[place])
        return self._frames[place]

    def picture(self, file: Path, number: int, frame: Mapping[str, Any]) -> tuple[Path, str]:
        """The image of a frame, and what an error calls it."""
        where = f"{file}: frame {number} ({frame['file_path']})"
        name = Path(frame["file_path"]).name  # whatever folder it was rendered to
        return find_picture(file.parent / "images", name, where), where

    def near_far(self, frame: Mapping[str, Any], where: str) -> tuple[float, float]:
        """As it was asked for, or as the file says, or OmniObject3D's."""
        stated = (frame.get("near"), frame.get("far"))
        if self._near_far is not None or stated == (None, None):
            return self._near_far or NEAR_FAR
        if not all(isinstance(value, int | float) for value in stated) or not 0 < stated[0] < stated[1]:
            raise UserError(f"{where}: near and far are {stated[0]} and {stated[1]}, expected 0 < near < far")
        return stated

    def _view(self, file: Path, number: int, frame: Mapping[str, Any]) -> View:
        path, where = self.picture(file, number, frame)
        rgba = read_rgba(path)
        return View(where, rgba, camera_of(frame, rgba.shape[2], rgba.shape[1], where), self.near_far(frame, where))


def _transforms(root: Path) -> list[Path]:
    """The files of all objects; of none that is just being written."""
    for depth in range(4):
        found = sorted(root.glob(f"{'*/' * depth}render/transforms.json"))
        found = [file for file in found if not any(part[0] == "." for part in file.relative_to(root).parts)]
        if found:
            return found
    return []


def _category(file: Path) -> str:
    return file.absolute().parent.parent.parent.name


def _numbers_of(root: Path, files: Sequence[Path]) -> Sequence[int]:
    """The number of each object in the whole set, which says if it is held out.

    `render-meshes` lists them; an object keeps its number there, whichever others are rendered or looked at.
    """
    where = root.absolute()
    listing = next((file for folder in (where, *where.parents[:2]) if (file := folder / OBJECTS).is_file()), None)
    if listing is None:
        return range(len(files))
    try:
        known = {f"{entry['category']}/{entry['object']}": i for i, entry in enumerate(read_json(listing)["objects"])}
        return [known[file.absolute().parent.parent.relative_to(listing.parent).as_posix()] for file in files]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{listing}: does not list every object of {root} ({error}); render again, or remove it"
        ) from error


class SrnSource:
    """`cars_train/<object>/{intrinsics.txt, pose/000000.txt, rgb/000000.png}`: our axes, camera to world."""

    def __init__(self, config: SrnConfig):
        expected = "the folder with cars_train and its like, or one of these"
        root = located(config.path, None, expected)
        folders = [root] if root.name.endswith(f"_{config.split}") else sorted(root.glob(f"*_{config.split}"))
        self._objects = [entry.parent for folder in folders for entry in sorted(folder.glob("*/intrinsics.txt"))]
        if not self._objects:
            raise UserError(
                f"{root}: holds no objects with intrinsics.txt in a folder that ends in _{config.split}; give `path` "
                f"{expected}"
            )
        self._near_far = [config.near_far or _srn_near_far(entry.absolute().parent) for entry in self._objects]
        self._poses: dict[int, list[Path]] = {}
        self.names = [entry.name for entry in self._objects]

    def count(self, scene: int) -> int:
        """How many views an object has."""
        return len(self._files(scene))

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some views of an object."""
        folder = self._objects[scene]
        intrinsics, stated = _srn_intrinsics(folder / "intrinsics.txt")
        return [self._view(scene, self._files(scene)[view], intrinsics, stated) for view in views]

    def _view(self, scene: int, image: Path, intrinsics: Float[Tensor, "3 3"], stated: tuple[float, float]) -> View:
        file = self._objects[scene] / "pose" / f"{image.stem}.txt"
        pose = _numbers(file, 16).reshape(4, 4)
        rgba = read_rgba(image)
        width, height = rgba.shape[2], rgba.shape[1]
        require_aspect(str(file), (width, height), stated)
        camera = resize_camera(Camera(pose, intrinsics), width / stated[0], height / stated[1])
        return View(str(file), rgba, camera, self._near_far[scene])

    def _files(self, scene: int) -> list[Path]:
        if scene not in self._poses:
            folder = self._objects[scene] / "rgb"
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder; fetch the object again, with rgb/ and pose/")
            self._poses[scene] = pictures_of(folder)
        return self._poses[scene]


def _srn_intrinsics(path: Path) -> tuple[Float[Tensor, "3 3"], tuple[float, float]]:
    """`f cx cy 0`, three lines of others, and `height width`; the size that they are of is `(width, height)`."""
    lines = _lines(path)
    try:
        (focal, cx, cy, _), (height, width) = ([float(word) for word in lines[place].split()] for place in (0, -1))
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{path}: expected 'f cx cy 0' on the first line, 'height width' on the last ({error})"
        ) from error
    if min(focal, height, width) <= 0:
        raise UserError(f"{path}: the focal length and the size have to be positive; fetch it again")
    values = (torch.tensor(value, dtype=torch.float64) for value in (focal, focal, cx, cy))
    return make_intrinsics(*values), (width, height)


def _srn_near_far(folder: Path) -> tuple[float, float]:
    kind = folder.name.rpartition("_")[0].removeprefix("srn_")
    if kind not in SRN_NEAR_FAR:
        raise UserError(f"{folder}: is of neither cars nor chairs, and its distances are not known; set `near_far`")
    return SRN_NEAR_FAR[kind]


def _numbers(path: Path, count: int) -> Float[Tensor, " count"]:
    """All the numbers of a text file."""
    words = " ".join(_lines(path)).split()
    try:
        values = torch.tensor([float(word) for word in words], dtype=torch.float64)
    except ValueError as error:
        raise UserError(f"{path}: expected {count} numbers ({error}); fetch it again") from error
    if len(values) != count:
        raise UserError(f"{path}: holds {len(values)} numbers, expected {count}; fetch it again")
    return values


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch it again") from error
