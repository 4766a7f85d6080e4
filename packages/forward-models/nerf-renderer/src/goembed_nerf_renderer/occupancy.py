"""Leaving out what does not count, where no gradient is wanted: empty space, and what is behind something opaque."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from goembed_nerf_renderer.fields import FieldSamples, RadianceField

BLOCK = 16  # samples of a ray that are looked at before those that are done are left out


class OccupancyGrid(NamedTuple):
    """Which cells of a box hold anything; outside of the box nothing is known, and all is looked at."""

    cells: Bool[Tensor, "batch x y z"]  # with a border, which is True, around those of the box
    low: Float[Tensor, "batch 3"]
    high: Float[Tensor, "batch 3"]

    @property
    def occupied(self) -> Bool[Tensor, "batch x y z"]:
        """The cells of the box."""
        return self.cells[:, 1:-1, 1:-1, 1:-1]

    def contains(self, points: Float[Tensor, "batch n 3"]) -> Bool[Tensor, "batch n"]:
        """Whether there may be anything at points of the world."""
        side = self.cells.shape[1]
        scale = (side - 2) / (self.high - self.low)
        place = torch.addcmul((1 - self.low * scale)[:, None], points, scale[:, None])
        x, y, z = place.clamp_(0, side - 1).long().unbind(-1)
        return self.cells.flatten(1).gather(1, (x * side + y) * side + z)


@torch.no_grad()
def occupancy_grid(
    field: RadianceField,
    low: Float[Tensor, "batch 3"],
    high: Float[Tensor, "batch 3"],
    resolution: int,
    min_density: float,
    chunk_points: int = 2**18,
) -> OccupancyGrid:
    """Look at the corners and the centre of each cell: occupied is what is above `min_density` there or in a neighbour.

    What is finer than a cell can be missed; `contains` says False there, and the rendering has a hole.

    **Arguments:**
    - `low`, `high`: corners of the box, for each field.
    - `resolution`: cells along each side.
    - `min_density`: choose it so that `min_density` times the length of the box is far below 1.
    """
    corners = _lattice(field, low, high, torch.arange(resolution + 1) / resolution, chunk_points)
    centres = _lattice(field, low, high, (torch.arange(resolution) + 0.5) / resolution, chunk_points)
    largest = torch.maximum(F.max_pool3d(corners[:, None], 2, stride=1), centres[:, None])
    occupied = F.max_pool3d(largest, 3, stride=1, padding=1)[:, 0] > min_density
    return OccupancyGrid(F.pad(occupied, (1,) * 6, value=True), low, high)


def _lattice(field: RadianceField, low: Tensor, high: Tensor, ticks: Tensor, chunk_points: int) -> Tensor:
    """Densities at the points of a lattice in [0, 1]³ of the box, `(B, n, n, n)`."""
    ticks = ticks.to(low)
    unit = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    points = low[:, None] + unit * (high - low)[:, None]
    step = max(1, chunk_points // max(1, len(low)))
    density = torch.cat([field(part, None).density.to(low.dtype) for part in points.split(step, 1)], 1)
    return density.reshape(len(low), *(len(ticks),) * 3)


def evaluate_where(
    field: RadianceField,
    points: Float[Tensor, "batch n 3"],
    directions: Float[Tensor, "batch n 3"] | None,
    wanted: Bool[Tensor, "batch n"],
) -> FieldSamples:
    """The field at the wanted points, zeros elsewhere; it is asked for as many as the item with most of them has."""
    place = wanted.cumsum(1) - 1
    item, point = wanted.nonzero(as_tuple=True)
    most = max(1, int(wanted.sum(1).max()) if wanted.numel() else 0)
    slot = place[item, point]
    index = torch.zeros(len(points), most, dtype=torch.long, device=points.device)
    index[item, slot] = point
    rows = index[..., None].expand(-1, -1, 3)
    samples = field(points.gather(1, rows), None if directions is None else directions.gather(1, rows))

    def spread(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        whole = values.new_zeros(*points.shape[:2], *values.shape[2:])
        whole[item, point] = values[item, slot]
        return whole

    return FieldSamples(*(spread(values) for values in samples))


def evaluate_sparsely(
    field: RadianceField,
    points: Float[Tensor, "batch rays samples 3"],
    directions: Float[Tensor, "batch rays 3"] | None,
    lengths: Float[Tensor, "batch rays samples"],
    occupancy: OccupancyGrid | None,
    min_transmittance: float,
) -> FieldSamples:
    """The field at the samples of rays, `(B, rays * samples)`; zero where nothing is, or where nothing comes through.

    Rays are followed front to back, a few samples at a time.
    """
    if torch.is_grad_enabled():
        raise UserError(f"{points.shape[1]} rays with gradient: an occupancy grid and min_transmittance have none")
    limit = -math.log(min_transmittance) if min_transmittance > 0 else math.inf
    depth = torch.zeros_like(lengths[..., 0])
    blocks = []
    step = BLOCK if min_transmittance > 0 else points.shape[2]
    for start in range(0, points.shape[2], step):
        part = slice(start, start + step)
        wanted = (lengths[..., part] > 0) & (depth < limit)[..., None]
        flat = points[:, :, part].flatten(1, 2)
        if occupancy is not None:
            wanted &= occupancy.contains(flat).view_as(wanted)
        along = None if directions is None else directions[:, :, None].expand(-1, -1, wanted.shape[2], -1).flatten(1, 2)
        samples = evaluate_where(field, flat, along, wanted.flatten(1))
        density = samples.density.reshape(wanted.shape)
        depth = depth + (density.to(depth) * lengths[..., part]).sum(-1)
        blocks.append([None if v is None else v.unflatten(1, wanted.shape[1:]) for v in samples])
    joined = (None if parts[0] is None else torch.cat(parts, 2).flatten(1, 2) for parts in zip(*blocks, strict=True))
    return FieldSamples(*joined)
