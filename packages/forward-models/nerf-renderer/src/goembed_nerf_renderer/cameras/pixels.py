"""`φ` of the renderer: which positions of which image are looked at; whole images, patches and single rays alike.

Values come with their channels before the pixels' own dimensions, as images do everywhere in the project:
`(B, V, C, H, W)` of a whole image or a patch, `(B, V, C, N)` of `N` rays.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.shapes import require_views
from jaxtyping import Float, Int
from torch import Tensor

from goembed_nerf_renderer.cameras.geometry import Camera


class PosedPixels(NamedTuple):
    """Positions in the image of a camera; every leaf `(B, V, ...)`."""

    camera: Camera
    pixels: Float[Tensor, "batch views *shape 2"]  # (x, y); the first pixel's centre is (0.5, 0.5)
    image_size: Float[Tensor, "batch views 2"]  # width and height of the whole image, in pixels


def whole_image(camera: Camera, height: int, width: int) -> PosedPixels:
    """Every pixel of images of one size: `pixels` is `(B, V, height, width, 2)`."""
    k = camera.intrinsics
    columns, rows = (torch.arange(side, device=k.device, dtype=k.dtype) + 0.5 for side in (width, height))
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    views = k.shape[:2]
    size = torch.stack([torch.full(views, float(side), device=k.device, dtype=k.dtype) for side in (width, height)], -1)
    return PosedPixels(camera, grid.expand(*views, height, width, 2), size)


def patch(
    observations: Observations,
    left: Int[Tensor, "batch views"],
    top: Int[Tensor, "batch views"],
    height: int,
    width: int,
) -> Observations:
    """A rectangle of each whole image, `(B, V, C, height, width)`, with its own `φ`.

    **Arguments:**
    - `left`, `top`: the first column and row, which have to leave room for the patch.
    """
    columns, rows = (torch.arange(side, device=left.device) for side in (width, height))
    x, y = left[..., None, None] + columns, top[..., None, None] + rows[:, None]
    return _take(observations, x.expand(*left.shape, height, width), y.expand(*left.shape, height, width))


def random_patch(observations: Observations, height: int, width: int, random: ItemRandom) -> Observations:
    """A rectangle at a random place of each whole image, `(B, V, C, height, width)`, with its own `φ`.

    Where views are smaller than the tensor that holds them, it lies within `image_size`.

    **Raises:** UserError for a patch larger than an image.
    """
    available = _available(observations)
    if ((available[..., 0] < width) | (available[..., 1] < height)).any():
        smallest = available.flatten(0, 1).amin(0).int().tolist()
        raise UserError(
            f"a patch of {width} x {height} pixels does not fit into an image of {smallest[0]} x {smallest[1]}; "
            f"ask for a smaller one"
        )
    free = available - available.new_tensor([width, height]) + 1
    corner = _draw(free, random.rand(available.shape[1], 2))
    return patch(observations, corner[..., 0], corner[..., 1], height, width)


def random_pixels(observations: Observations, count: int, random: ItemRandom) -> Observations:
    """`count` pixels of each whole image, drawn with replacement: `(B, V, C, count)`, with their own `φ`."""
    available = _available(observations)
    place = _draw(available[:, :, None], random.rand(available.shape[1], count, 2))
    return _take(observations, place[..., 0], place[..., 1])


def split_pixels(observations: Observations, size: int) -> list[Observations]:
    """All pixels of whole images, patches or rays, at most `size` at a time: parts `(B, V, C, n)` with their own `φ`.

    Nothing is drawn and nothing left out: where views are smaller than the tensor that holds them, the padding is there
    too.  As `partial(split_pixels, size=…)` it is what encoders ask for to hold one part at a time.

    **Raises:** UserError for a size below 1, and for values that do not go with their pixels.
    """
    values, params = observations
    views = require_views(params, len(values))
    shape = tuple(params.pixels.shape[2:-1])
    if values.dim() < 3 or values.shape[1] != views or tuple(values.shape[3:]) != shape:
        raise UserError(
            f"values {tuple(values.shape)} and pixels {tuple(params.pixels.shape)}: expected as many positions, "
            f"(batch, views, channels, ...) and (batch, views, ..., 2)"
        )
    if size < 1:
        raise UserError(f"parts of size={size} pixels: give at least 1")
    count = math.prod(shape)
    flat = values.reshape(*values.shape[:3], count)
    places = params.pixels.reshape(*params.pixels.shape[:2], count, 2)
    return [
        Observations(part, params._replace(pixels=pixels))
        for part, pixels in zip(flat.split(size, 3), places.split(size, 2), strict=True)
    ]


def channels_last(values: Float[Tensor, "batch views c *shape"]) -> Float[Tensor, "batch views *shape c"]:
    """Values with their channels behind the pixels' dimensions."""
    return values.movedim(2, -1)


def channels_first(values: Float[Tensor, "batch views *shape c"]) -> Float[Tensor, "batch views c *shape"]:
    """Values with their channels before the pixels' dimensions, as the renderer gives them."""
    return values.movedim(-1, 2)


def _available(observations: Observations) -> Float[Tensor, "batch views 2"]:
    """Width and height that may be drawn from."""
    values, params = observations
    require_views(params, len(values))
    if values.dim() != 5 or params.pixels.dim() != 5 or values.shape[3:] != params.pixels.shape[2:4]:
        raise UserError(
            f"values {tuple(values.shape)} and pixels {tuple(params.pixels.shape)}: expected whole images, "
            f"(batch, views, channels, height, width) and (batch, views, height, width, 2)"
        )
    height, width = values.shape[3:]
    return params.image_size.minimum(params.image_size.new_tensor([width, height]))


def _draw(free: Float[Tensor, "*#n 2"], uniform: Float[Tensor, "*n 2"]) -> Int[Tensor, "*n 2"]:
    """Whole numbers in `[0, free)`."""
    free = free.to(uniform.device).floor()
    return (uniform * free).floor().minimum(free - 1).long()


def _take(
    observations: Observations, x: Int[Tensor, "batch views *shape"], y: Int[Tensor, "batch views *shape"]
) -> Observations:
    """Values and positions of some pixels."""
    values, params = observations
    batch, views, channels, _, width = values.shape
    shape = x.shape[2:]
    index = (y * width + x).flatten(2).to(values.device)
    taken = values.flatten(3).gather(3, index[:, :, None].expand(-1, -1, channels, -1))
    pixels = params.pixels.flatten(2, 3).gather(2, index[..., None].expand(-1, -1, -1, 2))
    return Observations(
        taken.reshape(batch, views, channels, *shape),
        params._replace(pixels=pixels.reshape(batch, views, *shape, 2)),
    )
