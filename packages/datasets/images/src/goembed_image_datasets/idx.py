"""IDX, the format of MNIST: `0 0 type rank`, the sizes as big-endian 32-bit integers, then the values.

Source: the end of Y. LeCun's MNIST page.  Only unsigned bytes (type 8) are read, which is what image sets use.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from goembed_core.errors import UserError
from jaxtyping import UInt8

from goembed_image_datasets.bounds import read_bytes_of, require_bounded

UNSIGNED_BYTE = 8


def read_idx(path: Path, rank: int) -> UInt8[np.ndarray, "..."]:
    """The array of an IDX file of unsigned bytes, gzipped or not.

    **Arguments:**
    - `rank`: the number of axes that the file must have: 3 for images `(N, H, W)`, 1 for labels `(N,)`.
    """
    try:
        with _open(path) as file:
            sizes = _read_header(file, path, rank)
            wanted, size = math.prod(sizes), path.stat().st_size
            zipped = isinstance(file, gzip.GzipFile)
            require_bounded(str(path), sizes, size if zipped else None)
            data = read_bytes_of(file, wanted if zipped else min(wanted, size))
            excess = file.read(1)
    except (OSError, EOFError, zlib.error) as error:  # a gzip stream that is cut or damaged
        raise UserError(f"{path}: cannot be read as an IDX file ({error}); fetch the file again") from error
    if len(data) < wanted:
        item = len(data) // (wanted // sizes[0])
        raise UserError(
            f"{path}: truncated in item {item}: its header promises {sizes[0]} items ({wanted} bytes), "
            f"it holds {len(data)} bytes; fetch the file again"
        )
    if excess:
        raise UserError(f"{path}: holds more than the {sizes[0]} items that its header promises; fetch the file again")
    return data.reshape(sizes)


def write_idx(path: Path, values: UInt8[np.ndarray, "..."]) -> None:
    """Write an array of unsigned bytes as IDX, gzipped if the name ends in `.gz`."""
    header = struct.pack(f">HBB{values.ndim}I", 0, UNSIGNED_BYTE, values.ndim, *values.shape)
    data = header + np.ascontiguousarray(values, np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _open(path: Path) -> io.BufferedIOBase:
    """The bytes of the file, through gzip where it begins like gzip."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else path.open("rb")


def _read_header(file: io.BufferedIOBase, path: Path, rank: int) -> tuple[int, ...]:
    magic = file.read(4)
    expected = struct.pack(">HBB", 0, UNSIGNED_BYTE, rank)
    if magic != expected:
        raise UserError(
            f"{path}: begins with {magic.hex(' ') or 'nothing'}, expected {expected.hex(' ')}: "
            f"an IDX file of unsigned bytes with {rank} axes ({'images' if rank == 3 else 'labels'})"
        )
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise UserError(f"{path}: truncated in its header; fetch the file again")
    return struct.unpack(f">{rank}I", sizes)
