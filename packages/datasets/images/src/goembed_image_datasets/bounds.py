"""How much a file may make this process hold, whatever its headers say."""

from __future__ import annotations

import math
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from goembed_core.errors import UserError
from jaxtyping import UInt8

MAX_FILE_BYTES = 256 * 2**20  # of one image file, in a folder or in a zip
MAX_ARRAY_BYTES = 16 * 2**30  # of an array of images; more is taken for a damaged or hostile file
MAX_EXPANSION = 100  # of a compressed array, where it is also large
LARGE_BYTES = 2**30
CHUNK_BYTES = 2**24


def read_file(path: Path) -> bytes:
    """The content of an image file; a UserError for a device, a pipe, and for more than `MAX_FILE_BYTES`."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path}: is no regular file; remove it")
        with path.open("rb") as file:
            data = file.read(min(found.st_size, MAX_FILE_BYTES) + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); remove it or repair the link") from error
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{path}: more than {MAX_FILE_BYTES} bytes; scale it down or remove it")
    return data


def require_bounded(where: str, shape: tuple[int, ...], stored_bytes: int | None = None) -> None:
    """Raise UserError for an array of bytes of a shape that nobody has; `stored_bytes`: what it takes compressed."""
    size, said = math.prod(shape), "x".join(map(str, shape))
    if min(shape, default=1) < 1 or size > MAX_ARRAY_BYTES:
        raise UserError(f"{where}: its header promises an array of {said}, which no image set has")
    if stored_bytes is not None and size > max(LARGE_BYTES, MAX_EXPANSION * stored_bytes):
        raise UserError(
            f"{where}: its header promises an array of {said} in {stored_bytes} compressed bytes, more than "
            f"{MAX_EXPANSION} times as much; if that is so, store it uncompressed"
        )


def read_bytes_of(file: BinaryIO, count: int) -> UInt8[np.ndarray, " read"]:
    """The next `count` bytes, or as many as there are; memory is touched only as they come."""
    values = np.empty(count, np.uint8)
    view, filled = memoryview(values), 0
    while filled < count:
        read = file.readinto(view[filled : filled + CHUNK_BYTES])
        if not read:
            break
        filled += read
    return values[:filled]


def require_plain_zip(info: zipfile.ZipInfo, where: str) -> None:
    """Raise UserError for a compression whose unpacking is not bounded by what is asked of it (bzip2, LZMA)."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = zipfile.compressor_names.get(info.compress_type, info.compress_type)
        raise UserError(f"{where}: is compressed by {method}, expected stored or deflate; make the zip again")
