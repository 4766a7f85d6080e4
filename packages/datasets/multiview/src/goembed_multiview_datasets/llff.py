"""LLFF's scenes: photographs with `poses_bounds.npy`, and folders of them at several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera, from_llff
from jaxtyping import Float
from torch import Tensor

from goembed_multiview_datasets.config import LlffConfig
from goembed_multiview_datasets.pictures import pictures_of, read_rgba, require_aspect, resize_area
from goembed_multiview_datasets.scenes import SceneDataset, View, located, scene_folders

FILE = "poses_bounds.npy"


def llff(config: LlffConfig) -> SceneDataset:
    """The dataset `llff`."""
    return SceneDataset(LlffSource(config), config)


class LlffSource:
    """The rows of `poses_bounds.npy` beside the images of a folder, sorted by name.

    Bounds are depths along z; as distances from the camera they reach to the corners of the image.
    """

    def __init__(self, config: LlffConfig):
        expected = f"the folder of a scene with its {FILE}, or a folder of such scenes"
        root = located(config.path, "llff_fern", expected)
        folders = scene_folders(root, FILE) if root.is_dir() else []
        if not folders:
            raise UserError(f"{root}: holds no {FILE}; give `path` {expected}")
        self.config = config
        self._rows = [_rows(folder / FILE) for folder in folders]
        self._images, self._reductions = zip(*(_images(folder, config.factor) for folder in folders), strict=True)
        for folder, rows, images in zip(folders, self._rows, self._images, strict=True):
            if len(rows) != len(images):
                raise UserError(
                    f"{folder / FILE}: has {len(rows)} cameras for the {len(images)} images of {images[0].parent}; "
                    f"put the very images there that it was made from"
                )
        self._folders = folders
        self.names = [folder.absolute().name for folder in folders]

    def count(self, scene: int) -> int:
        """How many views a scene has in the split."""
        return len(self._split(scene))

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some views of a scene."""
        split = self._split(scene)
        return [self._view(scene, split[view]) for view in views]

    def _split(self, scene: int) -> list[int]:
        rows, config = range(len(self._rows[scene])), self.config
        return [row for row in rows if config.split == "all" or (row % config.holdout == 0) == (config.split == "test")]

    def _view(self, scene: int, row: int) -> View:
        image, reduction = self._images[scene][row], self._reductions[scene]
        where = f"{self._folders[scene] / FILE}: row {row} ({image.name})"
        values = self._rows[scene][row]
        rgba = read_rgba(image)
        require_aspect(where, (rgba.shape[2], rgba.shape[1]), (float(values[9]), float(values[4])))
        if reduction > 1:
            width, height = (max(1, side // reduction) for side in (rgba.shape[2], rgba.shape[1]))
            rgba = resize_area(rgba, (width, height))
        height, width = rgba.shape[1:]
        camera, bounds = from_llff(values, width, height)
        return View(where, rgba, camera, self.config.near_far or _distances(camera, bounds, width, height, where))


def _distances(camera: Camera, bounds: Float[Tensor, " 2"], width: int, height: int, where: str) -> tuple[float, float]:
    """Depths along z as distances along rays: the farthest is in the corner."""
    near, far = bounds.tolist()
    if not 0 < near < far:
        raise UserError(f"{where}: its bounds are {near:g} and {far:g}, expected 0 < near < far; set `near_far`")
    focal = camera.intrinsics.diagonal()[:2]
    corner = torch.tensor([0.5 * width, 0.5 * height]).to(focal) / focal
    return near, far * float((1 + corner.square().sum()).sqrt())


def _rows(path: Path) -> Float[Tensor, "views 17"]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as an array ({error}); fetch it again") from error
    found = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else "an archive of arrays"
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.ndim != 2 or values.shape[1] != 17:
        raise UserError(f"{path}: is {found}; expected numbers of (views, 17)")
    if not len(values) or not np.isfinite(values).all() or not (values[:, [4, 9, 14]] > 0).all():
        raise UserError(f"{path}: has no views, or some without size, focal length or finite pose; make it again")
    return torch.from_numpy(values.astype(np.float64))


def _images(folder: Path, factor: int) -> tuple[list[Path], int]:
    """The images of a scene, and how many times they are to be made smaller."""
    places = {"images": factor} if factor == 1 else {f"images_{factor}": 1, "images": factor}
    for place, reduction in places.items():
        if (folder / place).is_dir():
            images = pictures_of(folder / place)
            if not images:
                raise UserError(f"{folder / place}: holds no image; put the photographs of {FILE} there")
            return images, reduction
    there = sorted(entry.name for entry in folder.glob("images*") if entry.is_dir())
    raise UserError(
        f"{folder}: has neither {' nor '.join(places)} for factor={factor}, but {', '.join(there) or 'no images'}; "
        f"set `factor`, or add images"
    )
