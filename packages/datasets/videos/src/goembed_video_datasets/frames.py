"""Single pictures as bytes, brought to the size that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from goembed_core.errors import UserError
from goembed_image_datasets.decode import decode
from jaxtyping import Float, UInt8
from torch import Tensor


class Square(NamedTuple):
    """A square part of a picture, in pixels."""

    left: int
    top: int
    side: int


def read_picture(path: Path) -> UInt8[np.ndarray, "3 height width"]:
    """An image file in colour, upright."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); remove it or repair the link") from error
    return np.asarray(decode(data, str(path)).convert("RGB")).transpose(2, 0, 1).copy()


def centre_square(height: int, width: int) -> Square:
    """The largest centred square."""
    side = min(height, width)
    return Square((width - side) // 2, (height - side) // 2, side)


def random_square(height: int, width: int, size: int, uniform: Float[Tensor, " 3"]) -> Square:
    """A square of half the shorter side or more, anywhere; of less than `size` only where the picture is."""
    largest = min(height, width)
    smallest = min(largest, max(size, -(-largest // 2)))
    across, down, extent = uniform.tolist()
    side = smallest + int(extent * (largest - smallest + 1))
    return Square(int(across * (width - side + 1)), int(down * (height - side + 1)), side)


def cut(pictures: UInt8[Tensor, "n 3 h w"], square: Square, size: int) -> UInt8[Tensor, "n 3 size size"]:
    """A square part of some pictures brought to `size`, antialiased."""
    left, top, side = square
    part = pictures[:, :, top : top + side, left : left + side]
    if side == size:
        return part
    resized = F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).to(pictures.dtype)
