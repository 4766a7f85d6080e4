"""Patch boxes: the `φ` of a generated image, i.e. which part of it is seen."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from jaxtyping import Bool, Float
from torch import Tensor


class PatchBox(NamedTuple):
    """A rectangle in fractions of the image's side, from the top left; every leaf `(B, V)`."""

    left: Float[Tensor, "batch views"]
    top: Float[Tensor, "batch views"]
    width: Float[Tensor, "batch views"]
    height: Float[Tensor, "batch views"]


def full_box(batch_size: int, num_views: int, device: torch.device | str = "cpu") -> PatchBox:
    """Boxes that show the whole image."""
    zeros = torch.zeros(batch_size, num_views, device=device)
    return PatchBox(zeros, zeros, zeros + 1, zeros + 1)


def box_mask(box: PatchBox, resolution: int) -> Bool[Tensor, "batch views 1 resolution resolution"]:
    """True where a pixel's centre lies in `[left, left + width) × [top, top + height)`; no gradient to the box."""
    centres = (torch.arange(resolution, device=box.left.device) + 0.5) / resolution
    left, top, width, height = (leaf[..., None] for leaf in box)
    columns = (centres >= left) & (centres < left + width)
    rows = (centres >= top) & (centres < top + height)
    return (rows[..., :, None] & columns[..., None, :])[:, :, None]


def random_boxes(
    random: ItemRandom, resolution: int, min_fraction: float, max_fraction: float, num_views: int = 1
) -> PatchBox:
    """Squares on whole pixels: their side uniform among those from `min_fraction` to `max_fraction` of the image's."""
    if not 0 < min_fraction <= max_fraction <= 1:
        raise UserError(
            f"boxes of {min_fraction} to {max_fraction} of the side: expected 0 < min_fraction <= max_fraction <= 1"
        )
    smallest = max(1, math.ceil(min_fraction * resolution))
    largest = max(smallest, math.floor(max_fraction * resolution))
    side = smallest + (random.rand(num_views) * (largest - smallest + 1)).floor()
    free = resolution - side + 1
    left, top = ((random.rand(num_views) * free).floor() for _ in range(2))
    return PatchBox(*(leaf / resolution for leaf in (left, top, side, side)))
