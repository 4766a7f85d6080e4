"""Single pictures and frames as bytes: hostile or broken files end in a `UserError` that names them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from goembed_core.errors import UserError
from goembed_image_datasets.decode import SUFFIXES as IMAGE_SUFFIXES
from goembed_image_datasets.decode import decode
from jaxtyping import UInt8

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "first_frame", "read_picture"]

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")


def read_picture(path: Path) -> UInt8[np.ndarray, "3 height width"]:
    """An image file in colour, upright."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); remove it or repair the link") from error
    return np.asarray(decode(data, str(path)).convert("RGB")).transpose(2, 0, 1).copy()


def first_frame(path: Path) -> UInt8[np.ndarray, "3 height width"]:
    """The first frame of a video."""
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            return frame.to_ndarray(format="rgb24").transpose(2, 0, 1).copy()
    except (av.FFmpegError, OSError, IndexError, StopIteration, ValueError) as error:
        raise UserError(
            f"{path}: no frame can be decoded ({error or 'it has none'}); remove it or convert it"
        ) from error
