"""Where rays meet boxes: the slab method (Kay and Kajiya 1986), exact to rounding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

NOTHING = -1
TINY = 1e-30  # along a slab: in it for good, or never


class Boxes(NamedTuple):
    """Boxes that stand upright, turned about z."""

    centre: Float[Tensor, "batch boxes 3"]
    half: Float[Tensor, "batch boxes 3"]  # half of each side
    azimuth_rad: Float[Tensor, "batch boxes"]  # where its own x points


def first_faces(
    boxes: Boxes, origins: Float[Tensor, "batch views 3"], directions: Float[Tensor, "batch views n 3"]
) -> Int[Tensor, "batch views n"]:
    """What each ray of cameras outside meets first: `6 box + face`, or `NOTHING`.

    Faces are those of negative x, positive x, negative y, positive y, negative z and positive z of the box itself.
    """
    nearest = torch.full_like(directions[..., 0], float("inf"))
    found = torch.full(nearest.shape, NOTHING, device=origins.device)
    world = directions.unbind(-1)
    for box in range(boxes.half.shape[1]):
        turn = boxes.azimuth_rad[:, box]
        start = torch.stack(_turned((origins - boxes.centre[:, None, box]).unbind(-1), turn[:, None]), -1)
        steps = _turned(world, turn[:, None, None])
        enter, leave = [], []
        for axis, step in enumerate(steps):  # one axis at a time: maxima over three numbers are slow
            inverse = torch.where(step.abs() < TINY, TINY, step).reciprocal_()
            middle = -start[..., axis, None] * inverse
            reach = boxes.half[:, box, axis, None, None] * inverse.abs_()
            enter.append(middle - reach)
            leave.append(middle.add_(reach))
        distance = enter[0].maximum(enter[1]).maximum(enter[2])
        hit = (distance <= leave[0].minimum(leave[1]).minimum(leave[2])) & (distance > 0) & (distance < nearest)
        for axis, step in enumerate(steps):
            through = hit & (enter[axis] == distance)
            found = torch.where(through, 6 * box + 2 * axis + (step < 0).long(), found)
        nearest = torch.where(hit, distance, nearest)
    return found


def _turned(vectors: tuple[Tensor, Tensor, Tensor], azimuth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors of the world in the frame of a box."""
    x, y, z = vectors
    cos, sin = azimuth.cos(), azimuth.sin()
    return cos * x + sin * y, cos * y - sin * x, z
