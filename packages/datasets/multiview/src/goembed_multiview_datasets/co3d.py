"""CO3D's sequences: annotations as JSON in gzip, PyTorch3D's cameras."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera, from_pytorch3d
from goembed_nerf_renderer.cameras.conventions import PyTorch3DCamera

from goembed_multiview_datasets.blender import read_json
from goembed_multiview_datasets.config import Co3dConfig
from goembed_multiview_datasets.pictures import read_rgba, require_aspect
from goembed_multiview_datasets.scenes import SceneDataset, View, located

FRAMES, SEQUENCES = "frame_annotations.jgz", "sequence_annotations.jgz"
MAX_BYTES = 4 * 2**30  # of annotations, unpacked; more is taken for a bomb
EXTENT = 8.0  # how far a scene reaches from its origin, where nothing else is said


class Frame(NamedTuple):
    """What is kept of an annotation."""

    file: Path
    number: int
    image: str
    mask: str | None
    size: tuple[int, int]  # height and width
    viewpoint: dict[str, Any]


def co3d(config: Co3dConfig) -> SceneDataset:
    """The dataset `co3d`."""
    return SceneDataset(Co3dSource(config), config)


class Co3dSource:
    """Sequences of frames in the order of their numbers; of one split."""

    def __init__(self, config: Co3dConfig):
        expected = f"the folder of CO3D with its categories, or of a category with its {FRAMES}"
        path = located(config.path, None, expected)
        folders = [path] if (path / FRAMES).is_file() else sorted(file.parent for file in path.glob(f"*/{FRAMES}"))
        if not folders:
            raise UserError(f"{path}: holds no {FRAMES}; give `path` {expected}")
        self.config = config
        self._scenes: list[tuple[Path, list[Frame]]] = []
        self.names: list[str] = []
        for folder in folders:
            found = _sequences(folder, config)
            self._scenes += [(folder.absolute().parent, frames) for frames in found.values()]
            self.names += [f"{folder.absolute().name}/{name}" for name in found]
        if not self.names:
            raise UserError(f"{path}: has no sequence in split={config.split} of set_list={config.set_list}")

    def count(self, scene: int) -> int:
        """How many frames a sequence has in the split."""
        return len(self._scenes[scene][1])

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some frames of a sequence."""
        root, frames = self._scenes[scene]
        return [self._view(root, self.names[scene], frames[view]) for view in views]

    def _view(self, root: Path, name: str, frame: Frame) -> View:
        where = f"{frame.file}: frame {frame.number} of {name}"
        image = root / frame.image
        if not image.is_file():
            raise UserError(f"{where}: its image {image} is not there; fetch the category's images")
        rgba = read_rgba(image)
        height, width = rgba.shape[1:]
        require_aspect(where, (width, height), frame.size[::-1])
        if self.config.masks:
            rgba = rgba * _mask(root, frame, where, (height, width))
        camera = _camera(frame.viewpoint, width, height, where)
        distance = float(camera.camera_to_world[:3, 3].norm())
        near_far = self.config.near_far or (max(distance - EXTENT, 0.1), distance + EXTENT)
        return View(where, rgba, camera, near_far)


def _sequences(folder: Path, config: Co3dConfig) -> dict[str, list[Frame]]:
    """The frames of each sequence of a category, as the split has them."""
    wanted = _listed(folder, config) if config.split != "all" else None
    found: dict[str, list[Frame]] = {}
    for place, entry in enumerate(_read(folder / FRAMES)):
        try:
            name, number = entry["sequence_name"], int(entry["frame_number"])
            size = int(entry["image"]["size"][0]), int(entry["image"]["size"][1])
            mask = (entry.get("mask") or {}).get("path")
            frame = Frame(folder / FRAMES, number, entry["image"]["path"], mask, size, entry["viewpoint"])
            if min(size) < 1 or not isinstance(frame.image, str) or not isinstance(frame.viewpoint, dict):
                raise ValueError("without image, size or viewpoint")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(
                f"{folder / FRAMES}: entry {place} is no annotation of a frame ({error!r}); fetch it again"
            ) from error
        if wanted is None or (name, number) in wanted:
            found.setdefault(name, []).append(frame)
    for frames in found.values():
        frames.sort(key=lambda frame: frame.number)
    names = sorted(found)
    if config.sequences is not None:
        quality = _quality(folder / SEQUENCES)
        names = sorted(sorted(names, key=lambda name: -quality.get(name, float("-inf")))[: config.sequences])
    return {name: found[name] for name in names}


def _listed(folder: Path, config: Co3dConfig) -> set[tuple[str, int]]:
    """The frames of a split, by sequence and number."""
    file = folder / "set_lists" / f"set_lists_{config.set_list}.json"
    if not file.is_file():
        there = sorted(path.stem.removeprefix("set_lists_") for path in file.parent.glob("set_lists_*.json"))
        raise UserError(f"{file}: no such list; set `set_list` to one of {', '.join(there) or 'none'}, or split=all")
    content = read_json(file)
    try:
        return {(str(name), int(number)) for name, number, *_ in content[config.split]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: has no list {config.split!r} of [sequence, frame, path]; fetch it again") from error


def _quality(file: Path) -> dict[str, float]:
    """How good the cameras of each sequence are, where that is known."""
    try:
        return {
            entry["sequence_name"]: float(entry["viewpoint_quality_score"])
            for entry in _read(file)
            if entry.get("viewpoint_quality_score") is not None
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: its entries are no annotations of sequences ({error!r}); fetch it again") from error


def _read(file: Path) -> list[Any]:
    """A list of annotations, unpacked no further than anyone's would be."""
    try:
        with gzip.open(file) as packed:
            text = packed.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UserError(
                f"{file}: unpacks to more than {MAX_BYTES} bytes, which no annotations have; fetch it again"
            )
        content = json.loads(text)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as JSON in gzip ({error}); fetch it again") from error
    if not isinstance(content, list):
        raise UserError(f"{file}: holds no list of annotations; fetch it again")
    return content


def _camera(viewpoint: dict[str, Any], width: int, height: int, where: str) -> Camera:
    """PyTorch3D's camera of an annotation; the first version, which does not name its NDC, has that of both sides."""
    try:
        leaves = [
            torch.tensor(viewpoint[key], dtype=torch.float64) for key in ("R", "T", "focal_length", "principal_point")
        ]
        if [tuple(leaf.shape) for leaf in leaves] != [(3, 3), (3,), (2,), (2,)]:
            raise ValueError(f"shapes {[tuple(leaf.shape) for leaf in leaves]}")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{where}: its viewpoint has no R (3x3), T (3), focal_length (2) and principal_point (2) ({error})"
        ) from error
    try:
        ndc = viewpoint.get("intrinsics_format", "ndc_norm_image_bounds")
        return from_pytorch3d(PyTorch3DCamera(*leaves), width, height, ndc)
    except UserError as error:
        raise UserError(f"{where}: intrinsics_format: {error}") from error


def _mask(root: Path, frame: Frame, where: str, size: tuple[int, int]) -> torch.Tensor:
    """How much of each pixel is of the object, `(1, height, width)`."""
    path = root / (frame.mask or "")
    if frame.mask is None or not path.is_file():
        raise UserError(
            f"{where}: its mask {frame.mask or ''} is not there; fetch the category's masks, or masks=false"
        )
    mask = read_rgba(path)[:1]
    if mask.shape[1:] != size:
        raise UserError(f"{where}: its mask is {mask.shape[2]}x{mask.shape[1]} pixels, its image {size[1]}x{size[0]}")
    return mask
