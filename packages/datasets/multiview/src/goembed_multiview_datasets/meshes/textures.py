"""Textures of a mesh in one table, each in ever smaller versions, looked up at any number of places at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from goembed_multiview_datasets.meshes.model import Material

MAX_LEVELS = 14


class Textures(NamedTuple):
    """The texels of all materials; level `l` of one is half as wide and high as level `l − 1`."""

    texels: Float[np.ndarray, "texels 4"]  # in [0, 1], colours multiplied by opacity
    first: Int[np.ndarray, "materials levels"]
    width: Int[np.ndarray, "materials levels"]
    height: Int[np.ndarray, "materials levels"]
    levels: Int[np.ndarray, " materials"]  # how many there are; none of a material without texture


def make_textures(materials: Sequence[Material]) -> Textures:
    """The table; the alpha of opaque materials counts for nothing."""
    first, width, height = (np.ones((len(materials), MAX_LEVELS), np.int64) for _ in range(3))
    levels = np.zeros(len(materials), np.int64)
    texels: list[np.ndarray] = [np.ones((1, 4), np.float32)]
    filled = 1
    for number, material in enumerate(materials):
        for level, image in enumerate(_pyramid(material)):
            height[number, level], width[number, level] = image.shape[:2]
            first[number, level] = filled
            levels[number] += 1
            texels.append(image.reshape(-1, 4))
            filled += len(texels[-1])
    return Textures(np.concatenate(texels), first, width, height, levels)


def look_up(
    textures: Textures, material: Int[np.ndarray, " n"], level: Int[np.ndarray, " n"], uv: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 4"]:
    """Bilinear between the centres of texels; textures wrap, and `v` goes up."""
    width, height, first = (table[material, level] for table in (textures.width, textures.height, textures.first))
    x, y = (uv[:, 0] % 1) * width - 0.5, ((-uv[:, 1]) % 1) * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    across, down = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
    left, right, above, below = left % width, (left + 1) % width, first + top % height * width, (top + 1) % height
    below = first + below * width
    texels = textures.texels
    upper = texels[above + left] * (1 - across) + texels[above + right] * across
    lower = texels[below + left] * (1 - across) + texels[below + right] * across
    return upper * (1 - down) + lower * down


def _pyramid(material: Material) -> list[np.ndarray]:
    """A texture and its halves down to a single texel."""
    if material.texture is None:
        return []
    image = material.texture.astype(np.float32) / 255
    if material.opacity == "opaque":
        image[..., 3] = 1
    image[..., :3] *= image[..., 3:]
    found = [image]
    while max(found[-1].shape[:2]) > 1 and len(found) < MAX_LEVELS:
        found.append(_half(found[-1]))
    return found


def _half(image: Float[np.ndarray, "height width 4"]) -> Float[np.ndarray, "new_height new_width 4"]:
    """Half the size, each texel the mean of what it covers."""
    size = tuple(max(1, side // 2) for side in image.shape[1::-1])
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(plane.resize(size, Image.Resampling.BOX)) for plane in planes], -1)
