"""Posed images of scenes: what every dataset of this package gives, whatever layout they lie in."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from goembed_core.errors import UserError, whereabouts
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.traits import DatasetTraits
from goembed_nerf_renderer.cameras import (
    Camera,
    crop_camera,
    require_cameras,
    resize_camera,
    whole_image,
)
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from goembed_multiview_datasets.config import ViewsConfig
from goembed_multiview_datasets.pictures import part_of_shape, resize_area

log = logging.getLogger(__name__)


class PosedImages(NamedTuple):
    """Views of one scene, in [0, 1] over the background; every leaf `(V, ...)`."""

    images: Float[Tensor, "views 3 height width"]
    alpha: Float[Tensor, "views 1 height width"]  # 1 where nothing of the background is seen
    camera: Camera
    near_far: Float[Tensor, "views 2"]  # distances from the camera between which the scene lies


class View(NamedTuple):
    """One view as it is stored."""

    where: str  # what an error calls it: the file that holds its camera, and the frame
    rgba: Float[Tensor, "4 height width"]  # in [0, 1]: colour over black, and opacity
    camera: Camera  # leaves (4, 4) and (3, 3), of the image as it is stored
    near_far: tuple[float, float]


class SceneSource(Protocol):
    """Scenes by number, in an order that is the same everywhere; of one split."""

    names: list[str]

    def count(self, scene: int) -> int:
        """How many views a scene has."""
        ...

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some views of a scene."""
        ...


class SceneDataset(Dataset[PosedImages]):
    """The scenes of a source as posed images; item `i` is of scene `i % scenes`.

    **Arguments:**
    - `source`: where they lie.
    - `config`: size, background, and the views that are drawn.
    """

    def __init__(self, source: SceneSource, config: ViewsConfig):
        self.source = source
        self.config = config
        counts = {scene: source.count(scene) for scene in range(len(source.names))}
        wanted = config.window or config.views or 1
        self._kept = [scene for scene, count in counts.items() if count >= wanted]
        short = [scene for scene, count in counts.items() if count < wanted]
        if short and (config.on_missing == "raise" or not self._kept):
            told = f"window={wanted}" if config.window else f"views={wanted}" if config.views else "one at least"
            raise UserError(
                f"{source.names[short[0]]}: has {counts[short[0]]} views in this split ({told} was asked for; so have "
                f"{len(short)} of {len(counts)} scenes); ask for fewer, or set on_missing=skip"
            )
        if short:
            log.warning("left out %d of %d scenes, which have too few views", len(short), len(counts))
        self.conformance = DatasetTraits(
            equal_shapes=config.views is not None or len({counts[scene] for scene in self._kept}) == 1
        )

    @property
    def names(self) -> list[str]:
        """The scene of each item."""
        return [self.source.names[scene] for scene in self._kept] * self.config.draws

    def __len__(self) -> int:
        return len(self._kept) * self.config.draws

    def __getitem__(self, index: int) -> PosedImages:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of a set of {len(self)}")
        index %= len(self)
        return assemble(self.source.read(self._scene(index), self.chosen(index)), self.config)

    def chosen(self, index: int) -> list[int]:
        """Which views of its scene an item has."""
        count = self.source.count(self._scene(index))
        if self.config.views is None:
            return list(range(count))
        random = ItemRandom(self.config.seed, [index], "multiview")
        window = self.config.window or count
        first = int(random.randint(0, count - window + 1, 1))
        return (first + random.rand(window).argsort(1)[0, : self.config.views]).tolist()

    def _scene(self, index: int) -> int:
        return self._kept[index % len(self._kept)]

    def observations(self, indices: Int[Tensor, " n"]) -> Observations:
        """The views of some items, values `(B, V, 3, H, W)` in [0, 1], and every pixel's place in `φ` (PosedPixels).

        **Raises:** UserError for scenes that differ in the number of views or in size.
        """
        found = [self[item] for item in require_indices(indices, len(self))]
        stacked = stack(found or [self[0]], indices.tolist(), self.names)
        images, camera = stacked.images[: len(found)], stacked.camera
        camera = Camera(*(leaf[: len(found)].to(indices.device) for leaf in camera))
        return Observations(images.to(indices.device), whole_image(camera, *images.shape[-2:]))


def assemble(views: Sequence[View], config: ViewsConfig) -> PosedImages:
    """Views of one scene at the size and over the background that are asked for."""
    images, cameras = zip(*(_sized(view, config.size) for view in views), strict=True)
    for view, image in zip(views, images, strict=True):
        if image.shape != images[0].shape:
            sizes = " and ".join(f"{shown.shape[2]}x{shown.shape[1]} pixels" for shown in (image, images[0]))
            raise UserError(f"{view.where}: it and {views[0].where} are of {sizes}; set `size` to bring them to one")
    camera = Camera(*(torch.stack(leaves).float() for leaves in zip(*cameras, strict=True)))
    require_named(camera, [view.where for view in views])
    rgba = torch.stack(images).clamp_(0, 1)
    alpha = rgba[:, 3:].clone()
    colour = rgba[:, :3] + (1 - alpha) if config.background == "white" else rgba[:, :3].clone()
    near_far = torch.tensor([view.near_far for view in views], dtype=torch.float32)
    return PosedImages(colour.clamp_(0, 1), alpha, camera, near_far)


def stack(scenes: Sequence[PosedImages], indices: Sequence[int], names: Sequence[str]) -> PosedImages:
    """Scenes of one shape as a batch, every leaf `(B, V, ...)`; `indices` and `names` are for the error."""
    for row, scene in enumerate(scenes):
        if scene.images.shape != scenes[0].images.shape:
            one, other = (tuple(shown.images.shape) for shown in (scene, scenes[0]))
            raise UserError(
                f"{names[indices[row]]}: its views are {one}, those of {names[indices[0]]} {other}; set `size` and "
                f"`views` to bring them to one shape"
            )
    cameras = [scene.camera for scene in scenes]
    return PosedImages(
        torch.stack([scene.images for scene in scenes]),
        torch.stack([scene.alpha for scene in scenes]),
        Camera(*(torch.stack(leaves) for leaves in zip(*cameras, strict=True))),
        torch.stack([scene.near_far for scene in scenes]),
    )


def require_named(camera: Camera, where: Sequence[str]) -> None:
    """`require_cameras` of the views of one scene, `(V, ...)`, with an error that names the frame."""
    try:
        require_cameras(Camera(*(leaf[None] for leaf in camera)))
    except UserError:
        for view, name in enumerate(where):
            try:
                require_cameras(Camera(*(leaf[None, view : view + 1] for leaf in camera)))
            except UserError as error:
                raise UserError(f"{name}: {str(error).partition(': ')[2]}") from None
        raise


def require_indices(indices: Int[Tensor, " n"], length: int) -> list[int]:
    """The indices as numbers; IndexError where one is outside of `[0, length)`."""
    items = indices.tolist()
    if items and (min(items) < 0 or max(items) >= length):
        raise IndexError(f"items {min(items)}...{max(items)} of a set of {length}")
    return items


def located(path: Path | None, folder: str | None, expected: str) -> Path:
    """The path that is meant; without one, a folder in that of the public data.

    **Raises:** UserError, which says what is `expected` there.
    """
    if path is not None:
        if not os.path.exists(os.path.expanduser(path)):
            raise UserError(f"{whereabouts(path)}: no such file or folder; give `path` {expected}")
        return Path(os.path.expanduser(path))
    data = os.environ.get("GOEMBED_DATA")
    if folder is None:
        raise UserError(f"no scenes given: set `path` to {expected}")
    if not data:
        raise UserError(
            f"no scenes given: set `path` to {expected}, or the environment variable GOEMBED_DATA to the folder that "
            f"holds {folder}/"
        )
    found = Path(data).expanduser() / folder
    if not found.is_dir():
        raise UserError(f"GOEMBED_DATA={data} has no folder {folder}; put it there, or set `path` to {expected}")
    return found


def scene_folders(root: Path, is_scene: str) -> list[Path]:
    """The folder itself if it has what makes a scene (a pattern), else those in it that have, sorted by name."""
    if any(root.glob(is_scene)):
        return [root]
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and any(folder.glob(is_scene)))


def _sized(view: View, size: int | tuple[int, int] | None) -> tuple[Float[Tensor, "4 height width"], Camera]:
    """A view cut and resized, with its camera."""
    if size is None:
        return view.rgba, view.camera
    size = (size, size) if isinstance(size, int) else size
    left, top, width, height = part_of_shape(*view.rgba.shape[1:], size)
    part = view.rgba[:, top : top + height, left : left + width]
    camera = resize_camera(crop_camera(view.camera, left, top), size[0] / width, size[1] / height)
    return resize_area(part, size) if size != (width, height) else part, camera
