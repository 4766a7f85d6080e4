"""Where pixels land: the cell of four targets around each moved pixel, in a frame with a border of one pixel.

A pixel at `q = p + flow(p)` lies between four targets: `base + offset` for the offsets of `corners`, which index a
flattened frame `(height + 2, width + 2)`.  The border takes what lands beside the image.  Behind the frame there is
room for one more cell, to which pixels go that land nowhere near it, or whose flow is not finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Frame(NamedTuple):
    """The size of an image, and how it lies in a flat buffer."""

    height: int
    width: int

    @property
    def row(self) -> int:
        """Numbers in a row, with the border."""
        return self.width + 2

    @property
    def framed(self) -> int:
        """Numbers in the image, with the border; the place of the cell for what lands nowhere."""
        return (self.height + 2) * self.row

    @property
    def numbers(self) -> int:
        """Numbers in the buffer."""
        return self.framed + self.row + 2

    def inner(self, buffer: Float[Tensor, "*batch numbers"]) -> Float[Tensor, "*batch height width"]:
        """The image in a buffer; a view."""
        framed = buffer[..., : self.framed].unflatten(-1, (self.height + 2, self.row))
        return framed[..., 1:-1, 1:-1]


class Cells(NamedTuple):
    """Where each of `pixels = height * width` pixels lands."""

    right: Float[Tensor, "batch pixels"]  # in [0, 1): how far to the right of the cell's first target
    down: Float[Tensor, "batch pixels"]  # in [0, 1): how far below it
    base: Int[Tensor, "batch pixels"]  # the cell's first target, its upper left
    nowhere: Bool[Tensor, "batch pixels"]  # lands outside of the frame, or at no finite place


class Corner(NamedTuple):
    """One of the four targets of every pixel: its weight is `across * along`, with derivatives `signs`."""

    offset: int
    across: Float[Tensor, "batch pixels"]
    along: Float[Tensor, "batch pixels"]
    signs: tuple[int, int]


def locate(flow: Float[Tensor, "batch 2 height width"]) -> Cells:
    """The cell of every pixel moved by a flow in pixels (x, y); differentiable in the flow, but for the choice of cell.

    Coordinates count from the border, so that they are at least 1 where a pixel starts: weights are then either zero or
    not below the rounding of the number 1, and no sum of them is so small that dividing by it could overflow.
    """
    frame = Frame(*flow.shape[2:])
    across = torch.arange(1, frame.width + 1, device=flow.device, dtype=flow.dtype)
    along = torch.arange(1, frame.height + 1, device=flow.device, dtype=flow.dtype)
    x, y = flow[:, 0] + across, flow[:, 1] + along[:, None]
    nowhere = ~((x >= 0) & (x < frame.width + 1) & (y >= 0) & (y < frame.height + 1))  # true for NaN
    x, y = x.masked_fill(nowhere, 0), y.masked_fill(nowhere, 0)
    column, row = x.detach().floor(), y.detach().floor()
    base = (row.long() * frame.row + column.long()).masked_fill_(nowhere, frame.framed)
    return Cells(*(part.flatten(1) for part in (x - column, y - row, base, nowhere)))


def corners(cells: Cells, frame: Frame) -> Iterator[Corner]:
    """The four targets; weights are bilinear, `max(0, 1 - |q_x - u_x|) max(0, 1 - |q_y - u_y|)`."""
    left, up = 1 - cells.right, 1 - cells.down
    yield Corner(0, left, up, (-1, -1))
    yield Corner(1, cells.right, up, (1, -1))
    yield Corner(frame.row, left, cells.down, (-1, 1))
    yield Corner(frame.row + 1, cells.right, cells.down, (1, 1))


def largest(values: Float[Tensor, "batch pixels"], cells: Cells, frame: Frame) -> Float[Tensor, "batch numbers"]:
    """Of each target the exact maximum of a value over the pixels that reach it with a weight above zero.

    Where none does it is the lowest finite number.  No gradient.
    """
    values, row, numbers = values.detach(), frame.row, frame.numbers
    # A pixel exactly on a column or row of targets reaches no further.  So there are four kinds, each with a maximum of
    # its own per cell (one scatter for all); then those that reach further are spread downwards, and to the right.
    kind = (cells.right.detach() > 0).long() * 2 + (cells.down.detach() > 0)
    lowest = values.new_full((len(values), 4 * numbers), torch.finfo(values.dtype).min)
    found = lowest.scatter_reduce(1, kind * numbers + cells.base, values, "amax").unflatten(1, (2, 2, numbers))
    spread = torch.maximum(found[:, :, 0], found[:, :, 1])
    below = torch.maximum(spread[..., row:], found[:, :, 1, :-row])
    spread = torch.cat([spread[..., :row], below], -1)
    here = torch.maximum(spread[:, 0], spread[:, 1])
    return torch.cat([here[:, :1], torch.maximum(here[:, 1:], spread[:, 1, :-1])], 1)
