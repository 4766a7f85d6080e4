"""The box of a field: where it is, in the world or in a camera's perspective, and which of its cells are empty."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_nerf_renderer.config import FieldConfig
from goembed_nerf_renderer.fields import FieldSamples

EXAMPLE_POINTS = 23
PART = 2**15  # points looked at together
NEAREST = 1e-6  # depth that points behind a perspective's camera are taken to have; they lie outside of its box


class FieldBox(nn.Module):
    """A box that is cut into cells, none of which is known to be empty at first.

    In a perspective it is a box in `(x / z, y / z, −1 / z)` of a camera: its cells grow with the distance.
    """

    def __init__(self, config: FieldConfig, longest: int):
        super().__init__()
        if config.box is None:
            raise UserError("a field without a box: give box={'low': [x, y, z], 'high': [x, y, z]}")
        self.register_buffer("low", torch.tensor(config.box.low), persistent=False)
        self.register_buffer("high", torch.tensor(config.box.high), persistent=False)
        frame = None if config.frame is None else torch.tensor(config.frame).reshape(4, 4)
        self.register_buffer("frame", frame, persistent=False)
        side = self.high - self.low
        sides = torch.ones(3) if frame is not None else side / side.amax()
        self.cells: tuple[int, int, int] = tuple(max(1, round(s * longest)) for s in sides.tolist())
        self.size = (side / torch.tensor(self.cells)).tolist()  # of a cell, in the box's own coordinates
        self.register_buffer("occupied", torch.ones(self.cells, dtype=torch.bool))

    def unit(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points of the world in [0, 1]³ of the box; differentiable."""
        if self.frame is not None:
            local = points @ self.frame[:3, :3].mT + self.frame[:3, 3]
            z = local[:, 2:].clamp(min=NEAREST)
            points = torch.cat([local[:, :2] / z, -1 / z], 1)
        return (points - self.low) / (self.high - self.low)

    def world(self, unit: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """The reverse of `unit`."""
        points = self.low + unit * (self.high - self.low)
        if self.frame is not None:
            z = -1 / points[:, 2:]
            points = (torch.cat([points[:, :2] * z, z], 1) - self.frame[:3, 3]) @ self.frame[:3, :3]
        return points

    def cell_length(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"] | float:
        """The length in the world of a cell at each point: of its longest side, or along z of the perspective."""
        if self.frame is None:
            return max(self.size)
        z = (points @ self.frame[2, :3] + self.frame[2, 3]).clamp(min=NEAREST)
        return self.size[2] * z.square()

    @torch.no_grad()
    def cell_of(self, points: Float[Tensor, "n 3"]) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """The number of each point's cell, and whether the point is in the box."""
        unit = self.unit(points)
        size = torch.tensor(self.cells, device=points.device)
        cell = (unit * size).long().clamp_(min=0).minimum(size - 1)
        return (cell[:, 0] * self.cells[1] + cell[:, 1]) * self.cells[2] + cell[:, 2], ((unit >= 0) & (unit <= 1)).all(
            1
        )

    def contains(self, points: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """Whether there may be anything at points of the world."""
        cell, inside = self.cell_of(points)
        return inside & self.occupied.flatten()[cell]

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch n 3"], Float[Tensor, "batch n 3"]]:
        """Points anywhere in the box, and unit directions, as the conformance suite wants them."""
        unit = torch.rand(batch_size * EXAMPLE_POINTS, 3, generator=generator).to(self.low)
        directions = torch.randn(batch_size, EXAMPLE_POINTS, 3, generator=generator).to(self.low)
        return self.world(unit).view_as(directions), F.normalize(directions, dim=-1)

    def lattice(self, cells: tuple[int, int, int], offset: float = 0.0) -> Float[Tensor, "n 3"]:
        """The points of the world at the corners of so many cells; or within each cell, at `offset`."""
        inner = offset > 0
        ticks = [(torch.arange(n + (not inner)) + offset) / n for n in cells]
        unit = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)
        return self.world(unit.to(self.low))


class BoxedField(nn.Module, ABC):
    """One scene in a box, for points of any batch; what it is made of is asked only where something may be.

    How dense each cell of the box was when it was last looked at is kept: it tells the renderer where to look, and
    which cells are empty (instant-ngp, §5.2).

    **Arguments:**
    - `longest`: cells along the box's longest side.
    - `depth`: optical depth of a cell that was not looked at; opaque cells would hide all behind them.
    - `kept`: of what a cell's depth was, at each look: a thin thing that one look misses is not forgotten at once.
    """

    def __init__(self, config: FieldConfig, longest: int, depth: float, kept: float):
        super().__init__()
        self.config, self.kept = config, kept
        self.box = FieldBox(config, longest)
        self.register_buffer("depths", torch.full(self.box.cells, depth))

    @abstractmethod
    def within(
        self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"] | None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"] | None]:
        """Density, and colour where directions are given, at points in cells that may hold something."""

    def forward(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """Evaluate; nothing outside of the box and in empty cells.  Differentiable in weights and points."""
        flat = points.reshape(-1, 3).to(self.depths)
        inside = self.box.contains(flat).nonzero()[:, 0]
        along = None if directions is None else directions.reshape(-1, 3)[inside]
        found, shown = self.within(flat[inside], along)
        density = flat.new_zeros(len(flat)).index_copy(0, inside, found.to(flat)).view(points.shape[:2])
        if shown is None:
            return FieldSamples(density, None)
        colour = torch.zeros_like(flat).index_copy(0, inside, shown.to(flat))
        return FieldSamples(density, colour.view(points.shape))

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch n 3"], Float[Tensor, "batch n 3"]]:
        """Points in the box, and unit directions."""
        return self.box.example(batch_size, generator)

    @torch.no_grad()
    def proposal(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """How dense the cells are, without gradient asking nothing else: where the renderer is to look."""
        flat = points.reshape(-1, 3).to(self.depths)
        cell, inside = self.box.cell_of(flat)
        depth = torch.where(inside, self.depths.flatten()[cell], 0.0)
        return FieldSamples((depth / self.box.cell_length(flat)).view(points.shape[:2]), None)

    @torch.no_grad()
    def find_empty(self, random: ItemRandom) -> None:
        """Look at a point of each cell, drawn anew, and keep what was found there."""
        offset = random.stream("cells").rand(1)[0].item() * 0.98 + 0.01
        points = self.box.lattice(self.box.cells, offset)
        self.box.occupied.fill_(True)
        found = [self(part[None], None).density[0] * self.box.cell_length(part) for part in points.split(PART)]
        self.depths.copy_(torch.maximum(self.kept * self.depths, torch.cat(found).view(self.box.cells)))
        wide = F.max_pool3d(self.depths[None], 3, stride=1, padding=1)[0]
        self.box.occupied.copy_(wide > self.config.min_depth)
