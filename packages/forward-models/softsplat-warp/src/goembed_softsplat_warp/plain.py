"""Splatting in plain differentiable operations: slower than `kernels`, whose second derivatives it gives."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from goembed_softsplat_warp.cells import Cells, Frame, corners, largest, locate

Mode = Literal["sum", "average", "linear", "softmax"]
MODES: tuple[Mode, ...] = ("sum", "average", "linear", "softmax")

# A target beyond the reach of a pixel that lands exactly on a column or row may have a smaller maximum than that
# pixel's metric.  The weight is zero there, but its derivative is not; it is right up to here, and finite beyond.
LARGEST_EXPONENT = 40.0


def importance(
    mode: Mode, metric: Float[Tensor, "batch 1 height width"] | None, cells: Cells, frame: Frame
) -> list[Float[Tensor, "batch pixels"]] | None:
    """What a pixel counts for at each of its four targets; None if every pixel counts the same.

    Softmax: `exp(Z - max Z)`, the maximum being the target's; it cancels when weights are divided by their sum.
    """
    if metric is None:
        return None
    values = metric.flatten(1).masked_fill(cells.nowhere, 0)
    if mode == "linear":
        return [values] * 4
    maximum = largest(values, cells, frame)
    offsets = (0, 1, frame.row, frame.row + 1)
    maxima = (maximum[:, offset:].gather(1, cells.base) for offset in offsets)
    return [(values - most).clamp(max=LARGEST_EXPONENT).exp() for most in maxima]


def plain_splat(
    mode: Mode,
    image: Float[Tensor, "batch channels height width"],
    flow: Float[Tensor, "batch 2 height width"],
    metric: Float[Tensor, "batch 1 height width"] | None = None,
) -> Float[Tensor, "batch channels height width"]:
    """The image moved by the flow; zero where nothing lands."""
    frame, cells = Frame(*image.shape[2:]), locate(flow)
    counts = importance(mode, metric, cells, frame)
    pixels = image.flatten(2)
    source = pixels if mode == "sum" else torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1)
    total = source.new_zeros(*source.shape[:2], frame.numbers)
    for number, corner in enumerate(corners(cells, frame)):
        weight = corner.across * corner.along
        if counts is not None:
            weight = weight * counts[number]
        index = (cells.base + corner.offset)[:, None].expand_as(source)
        total = total.scatter_add(2, index, source * weight[:, None])
    found = frame.inner(total)
    return found if mode == "sum" else found[:, :-1] * inverse(found[:, -1:])


def inverse(weight: Tensor) -> Tensor:
    """`1 / weight`, and zero where the weight is."""
    empty = weight == 0
    return weight.masked_fill(empty, 1).reciprocal().masked_fill(empty, 0)
