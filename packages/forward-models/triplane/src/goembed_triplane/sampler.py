"""Linear interpolation in grids, and its adjoint: indices and weights that serve every grid.

Coordinates are those of `torch.nn.functional.grid_sample` with `align_corners=True, padding_mode="border"`: the first
coordinate runs along the last dimension of the grid, −1 and 1 are the centres of its first and last cells, and what
lies outside has the value of the nearest place on the border, and no gradient in the points.

Everything is a derivative of one trilinear form, `Σ_n Σ_k weights[n, k] ⟨table[index[n, k]], values[n]⟩`: `lookup` is
that in the values, `scatter` that in the table, and `_Match` that in the weights.  Each has the other two for its
gradient, so that all of them can be differentiated any number of times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import product
from operator import add
from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.precision import at_least_float32, without_autocast
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

CHUNK = {"cpu": 2**11}  # places handled at a time: what stays in a processor's cache
LARGE_CHUNK = 2**18


class Axis(NamedTuple):
    """Where points lie along one dimension of a grid."""

    low: Int[Tensor, "*points"]  # the cell before it
    ends: Float[Tensor, "2 ..."]  # (2, *points): the weights of it and of the next one; differentiable in the points


class Cells(NamedTuple):
    """The `2^d` rows of a table that surround each of `n` places in each of some grids, and their weights."""

    first: Int[Tensor, "n grids"]  # the row with the lowest coordinates
    weights: Float[Tensor, "n grids corners"]
    steps: tuple[int, ...]  # from the first row to each corner


def sample(grid: Float[Tensor, "batch c *shape"], points: Float[Tensor, "batch n d"]) -> Float[Tensor, "batch n c"]:
    """The linear interpolation of each grid at its own points, in the grid's dtype.

    Any number of times differentiable in grid and points.  bfloat16 and float16 are computed in float32.

    **Arguments:**
    - `points`: `(x, ...)` in [−1, 1], x along the last dimension of the grid; outside, the border goes on.

    **Raises:** UserError for shapes that do not go together.
    """
    batch, channels, *shape = grid.shape
    _require(points, batch, shape, f"a grid of shape {tuple(grid.shape)}")
    with without_autocast(grid.device):
        table = at_least_float32(grid).movedim(1, -1).reshape(-1, channels)
        found = lookup(table, _cells(points.to(table), shape))
    return found.view(batch, points.shape[1], channels).to(grid.dtype)


def splat(
    values: Float[Tensor, "batch n c"], points: Float[Tensor, "batch n d"], shape: Sequence[int]
) -> Float[Tensor, "batch c *shape"]:
    """The adjoint of `sample`, `⟨sample(g, points), values⟩ = ⟨g, splat(values, points, shape)⟩`, in the values' dtype.

    **Arguments:**
    - `shape`: of the grid, without batch and channels.

    **Raises:** UserError for shapes that do not go together.
    """
    batch, number, channels = values.shape
    _require(points, batch, shape, f"values of shape {tuple(values.shape)} and a grid {tuple(shape)}")
    if points.shape[1] != number:
        raise UserError(f"values of {number} points with {points.shape[1]} points: give one value for each")
    with without_autocast(values.device):
        rows = at_least_float32(values).reshape(-1, channels)
        grid = scatter(rows, _cells(points.to(rows), shape), batch * math.prod(shape))
    return grid.view(batch, *shape, channels).movedim(-1, 1).to(values.dtype)


def axis(coordinate: Float[Tensor, "*points"], size: int) -> Axis:
    """Where coordinates in [−1, 1] lie among `size` cells."""
    place = ((coordinate + 1) * (0.5 * (size - 1))).clamp(0, size - 1)
    low = place.detach().long().clamp(0, max(size - 2, 0))
    fraction = place - low
    return Axis(low, torch.stack([1 - fraction, fraction]))


def surround(axes: Sequence[Axis], sizes: Sequence[int]) -> Cells:
    """The corners of cells of a grid, leaves `(*points)` and `(*points, corners)`.

    **Arguments:**
    - `axes`, `sizes`: of each dimension, the one that runs fastest first.
    """
    strides = [math.prod(sizes[:n]) for n in range(len(sizes))]
    first = reduce(add, [a.low * stride for a, stride in zip(axes, strides, strict=True)])
    weights = axes[0].ends
    for a in axes[1:]:
        weights = (weights[:, None] * a.ends).flatten(0, 1)
    offsets = list(product((0, 1), repeat=len(axes)))
    wide = [stride if size > 1 else 0 for stride, size in zip(strides, sizes, strict=True)]  # one cell: twice itself
    steps = tuple(sum(o * stride for o, stride in zip(offset, wide, strict=True)) for offset in offsets)
    return Cells(first, weights.movedim(0, -1), steps)


def lookup(table: Float[Tensor, "rows c"], cells: Cells) -> Float[Tensor, "n c"]:
    """`Σ_k weights[n, k] table[index[n, k]]`, over the corners of all grids."""
    return _Lookup.apply(table, cells.weights.to(table.dtype).contiguous(), cells.first, cells.steps)


def scatter(values: Float[Tensor, "n c"], cells: Cells, rows: int) -> Float[Tensor, "rows c"]:
    """The adjoint of `lookup` in the table: `weights[n, k] values[n]` is added to the row `index[n, k]`."""
    return _Scatter.apply(values, cells.weights.to(values.dtype).contiguous(), cells.first, cells.steps, rows)


def _cells(points: Float[Tensor, "batch n d"], shape: Sequence[int]) -> Cells:
    """The cells of one grid for each item of a batch, in a table of all grids."""
    sizes = tuple(shape)[::-1]
    found = surround([axis(points[..., k], size) for k, size in enumerate(sizes)], sizes)
    item = torch.arange(len(points), device=points.device)[:, None] * math.prod(shape)
    return Cells((found.first + item).reshape(-1, 1), found.weights.reshape(-1, 1, len(found.steps)), found.steps)


def _require(points: Tensor, batch: int, shape: Sequence[int], what: str) -> None:
    if points.dim() != 3 or len(points) != batch or points.shape[2] != len(shape):
        raise UserError(
            f"points of shape {tuple(points.shape)} for {what}: expected ({batch}, n, {len(shape)}), a coordinate for "
            f"each dimension"
        )


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, weights: Tensor, first: Tensor, steps: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(table, weights, first)
        ctx.steps = steps
        if not len(first):
            return table.new_zeros(0, table.shape[1])
        index, weights = _corners(first, steps).flatten(1), weights.flatten(1)
        return F.embedding_bag(index, table.contiguous(), per_sample_weights=weights.contiguous(), mode="sum")

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        table, weights, first = ctx.saved_tensors
        to_table = to_weights = None
        if ctx.needs_input_grad[0]:
            to_table = _Scatter.apply(slope, weights, first, ctx.steps, len(table))
        if ctx.needs_input_grad[1]:
            to_weights = _Match.apply(table, slope, first, ctx.steps)
        return to_table, to_weights, None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, weights: Tensor, first: Tensor, steps: tuple[int, ...], rows: int) -> Tensor:
        ctx.save_for_backward(values, weights, first)
        ctx.steps = steps
        chunk = CHUNK.get(values.device.type, LARGE_CHUNK)
        parts = zip(values.split(chunk), weights.split(chunk), first.split(chunk), strict=True)
        channels = values.shape[1]
        if rows > first.numel():  # fewer places than rows: a corner at a time
            table = values.new_zeros(rows, channels)
            for value, weight, row in parts:
                for k, step in enumerate(steps):
                    table.index_add_(0, (row + step).flatten(), (weight[:, :, k, None] * value[:, None]).flatten(0, 1))
            return table
        wide = values.new_zeros(rows, len(steps) * channels)  # all corners of a cell beside each other, then folded
        for value, weight, row in parts:
            terms = weight[..., None] * value[:, None, None]
            wide.index_add_(0, row.flatten(), terms.reshape(-1, len(steps) * channels))
        each = wide.unflatten(1, (len(steps), channels))
        table = each[:, 0].clone()
        for k, step in enumerate(steps[1:], 1):
            table[step:] += each[: rows - step, k]
        return table

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        values, weights, first = ctx.saved_tensors
        to_values = to_weights = None
        if ctx.needs_input_grad[0]:
            to_values = _Lookup.apply(slope, weights, first, ctx.steps)
        if ctx.needs_input_grad[1]:
            to_weights = _Match.apply(slope, values, first, ctx.steps)
        return to_values, to_weights, None, None, None


class _Match(torch.autograd.Function):
    """`⟨table[index[n, k]], values[n]⟩`."""

    @staticmethod
    def forward(ctx, table: Tensor, values: Tensor, first: Tensor, steps: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(table, values, first)
        ctx.steps = steps
        chunk = CHUNK.get(values.device.type, LARGE_CHUNK)
        found = [
            torch.bmm(
                table.index_select(0, _corners(row, steps).flatten()).view(len(value), -1, table.shape[1]),
                value[..., None],
            )
            for value, row in zip(values.split(chunk), first.split(chunk), strict=True)
        ]
        return torch.cat(found).view(*first.shape, len(steps))

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        table, values, first = ctx.saved_tensors
        to_table = to_values = None
        if ctx.needs_input_grad[0]:
            to_table = _Scatter.apply(values, slope, first, ctx.steps, len(table))
        if ctx.needs_input_grad[1]:
            to_values = _Lookup.apply(table, slope, first, ctx.steps)
        return to_table, to_values, None, None


def _corners(first: Int[Tensor, "n grids"], steps: tuple[int, ...]) -> Int[Tensor, "n grids corners"]:
    return first[..., None] + torch.tensor(steps, device=first.device)
