"""NumPy's `.npy` and `.npz`: unsigned bytes `(N, H, W)` or `(N, H, W, C)`, and labels.  Nothing is unpickled."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from goembed_core.errors import UserError
from numpy.lib import format as npy
from PIL import Image

from goembed_image_datasets.bounds import read_bytes_of, require_bounded, require_plain_zip

UNKNOWN = -1
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

# What NumPy's reader of headers is known to raise on damaged ones.
_DAMAGE = (
    ValueError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    KeyError,
    OverflowError,
    RecursionError,
    MemoryError,
)


class ArraySource:
    """The images of an array; an npz may hold labels beside them, and the arrays of both splits."""

    default_fit: Literal["pad", "crop"] = "pad"

    def __init__(self, path: Path, split: Literal["train", "test"]):
        self.has_splits, labels = False, None
        try:
            if path.suffix.lower() == ".npz":
                with zipfile.ZipFile(path) as file:
                    held = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
                    images, beside, self.has_splits = _choose(path, held, split)
                    where = f"{path}:{images}"
                    self.images = _images(_unpack(file, path, held[images], where), where)
                    if beside in held:
                        labels = _labels(_unpack(file, path, held[beside], f"{path}:{beside}"), f"{path}:{beside}")
            else:
                where = str(path)
                with path.open("rb") as file:
                    self.images = _images(_read(file, where, path.stat().st_size), where)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read ({error}); make or fetch it again") from error
        if labels is not None and len(labels) != len(self.images):
            raise UserError(f"{path}: {len(labels)} labels in {beside} for {len(self.images)} images in {images}")
        self.labels: list[int] = [UNKNOWN] * len(self.images) if labels is None else labels
        self.names = [f"{where}, item {index}" for index in range(len(self.images))]

    def read(self, index: int) -> Image.Image:
        """The image `index`."""
        return Image.fromarray(np.ascontiguousarray(self.images[index]))


def _choose(path: Path, held: dict[str, Any], split: str) -> tuple[str, str, bool]:
    """The names of the images and of the labels of a split, and whether the npz has splits."""
    for images, labels in ((f"{split}_images", f"{split}_labels"), (f"x_{split}", f"y_{split}")):
        if images in held:
            return images, labels, True
    for images, labels in (("images", "labels"), ("x", "y"), ("arr_0", "arr_1")):
        if images in held:
            return images, labels, False
    if len(held) == 1:
        return next(iter(held)), "", False
    names = f"images, x, arr_0, {split}_images or x_{split}"
    raise UserError(f"{path}: holds {', '.join(held) or 'no array'}; expected images in an array called {names}")


def _unpack(file: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    require_plain_zip(info, where)
    stored = min(info.compress_size, path.stat().st_size) if info.compress_type else None
    with file.open(info) as entry:
        return _read(entry, where, info.file_size, stored)


def _read(file: BinaryIO, where: str, size: int, stored: int | None = None) -> np.ndarray:
    """An array of integers from `size` bytes, of which `stored` are kept where they are compressed."""
    try:
        version = npy.read_magic(file)
        shape, is_fortran, dtype = HEADERS[version](file)
        count = math.prod(shape) * dtype.itemsize
    except _DAMAGE as error:
        raise UserError(f"{where}: its header is not one of a NumPy array ({error}); make it again") from error
    if dtype.kind not in "iu":
        raise UserError(f"{where}: holds {dtype}, expected unsigned bytes (uint8); objects are never unpickled")
    require_bounded(where, (*shape, dtype.itemsize) if dtype.itemsize > 1 else shape, stored)
    promised, held = f"its header promises {'x'.join(map(str, shape))} values of {dtype}", size - file.tell()
    if held > count:
        raise UserError(f"{where}: holds {held - count} bytes more than {promised}; make it again")
    values = read_bytes_of(file, min(count, held))
    file.read(1)  # the checksum of a zip is looked at where its entry ends
    if len(values) < count:
        item = len(values) // (count // (*shape, 1)[0])
        raise UserError(f"{where}: truncated in item {item}: {promised}, it holds {len(values)} bytes; fetch it again")
    return values.view(dtype).reshape(shape, order="F" if is_fortran else "C")


def _images(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype != np.uint8 or values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[3] not in (1, 3)):
        raise UserError(
            f"{where}: is {values.dtype} of shape {values.shape}; expected uint8 of (N, H, W), or of (N, H, W, C) with "
            "1 or 3 channels"
        )
    return values[..., 0] if values.shape[3:] == (1,) else values


def _labels(values: np.ndarray, where: str) -> list[int]:
    if values.shape[1:] not in ((), (1,)) or not -(2**63) <= int(values.min()) <= int(values.max()) < 2**63:
        raise UserError(f"{where}: is {values.dtype} of shape {values.shape}; expected integers of (N,)")
    return values.reshape(-1).tolist()
