"""Renderings of single objects: OmniObject3D's by Blender, and the cars and chairs of SRN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera, make_intrinsics, resize_camera
from jaxtyping import Float
from torch import Tensor

from goembed_multiview_datasets.blender import Frame, camera_of, entries
from goembed_multiview_datasets.config import OmniObjectConfig, SrnConfig
from goembed_multiview_datasets.pictures import find_picture, pictures_of, read_rgba, require_aspect
from goembed_multiview_datasets.scenes import SceneDataset, View, located

SRN_NEAR_FAR = {"cars": (0.8, 1.8), "chairs": (1.25, 2.75)}


def omniobject3d(config: OmniObjectConfig) -> SceneDataset:
    """The dataset `omniobject3d`."""
    return SceneDataset(OmniObjectSource(config), config)


def srn(config: SrnConfig) -> SceneDataset:
    """The dataset `srn`."""
    return SceneDataset(SrnSource(config), config)


class OmniObjectSource:
    """`<category>/<object>/render/transforms.json`, with the images that it names in `render/images`."""

    def __init__(self, config: OmniObjectConfig):
        expected = "the folder of OmniObject3D's blender renders, one of its categories, or an object"
        root = located(config.path, None, expected)
        patterns = (f"{'*/' * depth}render/transforms.json" for depth in range(4))
        files = next((found for pattern in patterns if (found := sorted(root.glob(pattern)))), [])
        if not files:
            raise UserError(f"{root}: holds no <object>/render/transforms.json; give `path` {expected}")
        parts = {"all": slice(None), "test": slice(None, None, config.holdout)}
        held_out = set(files[parts["test"]])
        self._files = [
            file for file in files if config.split == "all" or (file in held_out) == (config.split == "test")
        ]
        if not self._files:
            raise UserError(f"{root}: holds {len(files)} objects, none of them of the split {config.split}")
        self._near_far = config.near_far
        self._frames: dict[int, list[Frame]] = {}
        self.names = [file.absolute().parent.parent.name for file in self._files]

    def count(self, scene: int) -> int:
        """How many views an object has."""
        return len(self._entries(scene))

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some views of an object."""
        return [self._view(*self._entries(scene)[view]) for view in views]

    def _entries(self, scene: int) -> list[Frame]:
        if scene not in self._frames:
            self._frames[scene] = entries(self._files[scene])
        return self._frames[scene]

    def _view(self, file: Path, number: int, frame: dict) -> View:
        where = f"{file}: frame {number} ({frame['file_path']})"
        name = Path(frame["file_path"]).name  # whatever folder it was rendered to
        rgba = read_rgba(find_picture(file.parent / "images", name, where))
        return View(where, rgba, camera_of(frame, rgba.shape[2], rgba.shape[1], where), self._near_far)


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
