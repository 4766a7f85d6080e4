"""What is seen where nothing lands."""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pull_push(
    premultiplied: Float[Tensor, "batch channels height width"], weight: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, "batch channels height width"]:
    """Colours times their weights in [0, 1], what is missing to 1 taken from neighbours (Gortler et al. 1996).

    Pull: each level halves the one below, four pixels being added up, and divided by their weight where it exceeds 1.
    Push: from the top, what a level lacks is the level above it, doubled bilinearly.  Colours stay multiplied by
    weights, so that nothing is divided by a small number: continuous, and differentiable in both.  Where a whole image
    has less than the weight of one pixel, mid-grey fills the rest.
    """
    levels = [(premultiplied, weight)]
    for _ in range(math.ceil(math.log2(max(*weight.shape[2:], 1)))):
        premultiplied, weight = levels[-1]
        total = _halve(weight)
        more = total.clamp(min=1)
        levels.append((_halve(premultiplied) / more, total / more))
    filled, _ = levels.pop()
    for premultiplied, weight in reversed(levels):
        doubled = _double(filled, *weight.shape[2:])
        filled = premultiplied + (1 - weight) * doubled
    return filled


def _halve(image: Tensor) -> Tensor:
    """The sum of each 2x2 pixels; a row or column that is left over is half empty."""
    height, width = image.shape[2:]
    return 4 * F.avg_pool2d(F.pad(image, (0, width % 2, 0, height % 2)), 2)


def _double(image: Tensor, height: int, width: int) -> Tensor:
    """Twice as large, bilinearly, cut to a size."""
    if 0 in image.shape[:2]:
        return image.new_zeros(*image.shape[:2], height, width)
    doubled = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[..., :height, :width]
