"""Zips of meshes as arrays, with an `index.json` beside them: household objects and aircraft, as they are published."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from goembed_core.errors import UserError
from PIL import Image

from goembed_multiview_datasets.meshes.model import Material, Mesh

OBJECTS = "objects_npz.zip"  # <id>.npz: its materials' textures within
MESHES, LIVERIES = "meshes_npz.zip", "textures256.zip"  # mNNN.npz, and the one texture that each instance has
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, zlib.error, zipfile.BadZipFile)


def read_object(folder: Path, name: str, where: str) -> Mesh:
    """An object of `objects_npz.zip`.

    **Raises:** UserError, which names `where`.
    """
    arrays = _arrays(folder / OBJECTS, name, where)
    try:
        colours = np.c_[arrays["mat_rgb"], arrays["mat_alpha"]].astype(np.float64).clip(0, 1)
        textures = [None if number < 0 else arrays[f"tex{number}_jpg"].tobytes() for number in arrays["mat_tex"]]
        materials = [
            Material(colour, None if data is None else decode_texture(data, f"{where}: texture {number}"))
            for number, (colour, data) in enumerate(zip(colours, textures, strict=True))
        ]
        return _mesh(arrays, arrays["face_mat"].astype(np.int64), materials)
    except _DAMAGE as error:
        raise UserError(f"{where}: is damaged ({error!r:.80}); fetch it again") from error


def read_aircraft(folder: Path, entry: Mapping[str, Any], where: str) -> Mesh:
    """A mesh of `meshes_npz.zip` with its texture of `textures256.zip`; faces that are not of it have colours alone.

    **Raises:** UserError, which names `where`.
    """
    arrays = _arrays(folder / MESHES, f"{entry['mesh']}.npz", where)
    livery = decode_texture(_member(folder / LIVERIES, entry["texture"], where), f"{where}: {entry['texture']}")
    try:
        painted = arrays["tex_index"] == arrays["main_tex"]
        colours, which = np.unique(arrays["face_color"], axis=0, return_inverse=True)
        plain = [Material(np.append(colour / 255.0, 1.0)) for colour in colours]
        material = np.where(painted, 0, 1 + which.reshape(-1))
        return _mesh(arrays, material, [Material(np.ones(4), livery), *plain])
    except _DAMAGE as error:
        raise UserError(f"{where}: is damaged ({error!r:.80}); fetch it again") from error


def decode_texture(data: bytes, where: str) -> np.ndarray:
    """The pixels of an image file, `(height, width, 4)` bytes.

    **Raises:** UserError, which names `where`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return np.asarray(image.convert("RGBA"))
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: its image is damaged or of no known format; fetch it again") from error


def _mesh(arrays: Mapping[str, np.ndarray], material: np.ndarray, materials: list[Material]) -> Mesh:
    low, high = arrays["bbox"].astype(np.float64)
    vertices = low + arrays["pos_u16"] / 65535 * (high - low)
    uv, faces = arrays["uv"].astype(np.float64), arrays["faces"].astype(np.int64)
    return Mesh(vertices, faces, uv, np.ones((len(vertices), 4)), material, tuple(materials))


def _arrays(path: Path, name: str, where: str) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(_member(path, name, where)), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except _DAMAGE as error:
        raise UserError(f"{where}: is no archive of arrays ({error!r:.80}); fetch {path.name} again") from error


def _member(path: Path, name: str, where: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as file:
            return file.read(name)
    except KeyError:
        raise UserError(f"{where}: {path} has no {name}; fetch it again") from None
    except _DAMAGE as error:
        raise UserError(f"{where}: {path} cannot be read ({error}); fetch it again") from error
