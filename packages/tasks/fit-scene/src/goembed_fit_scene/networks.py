"""NeRF's network, which is asked only where something may be."""

from __future__ import annotations

import math

import torch
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.fields import FieldSamples
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fit_scene.config import MLPFieldConfig

KEPT = 0.95  # of what a cell's depth was, at each look: a thin thing that one look misses is not forgotten at once


class MLPField(nn.Module):
    """NeRF (Mildenhall et al. 2020, §5): sines of position and direction, layers, density, then the colour.

    How dense each cell of the box was when it was last looked at is kept: it tells the renderer where to look, and
    which cells are empty (instant-ngp, §5.2).  One scene, for points of any batch.
    """

    def __init__(self, config: MLPFieldConfig):
        super().__init__()
        self.config = config
        self.box = FieldBox(config, config.occupancy_cells)
        width, position = config.hidden_size, 3 + 6 * config.frequencies
        self.layers = nn.ModuleList(
            nn.Linear({0: position, config.depth // 2 + 1: width + position}.get(n, width), width)
            for n in range(config.depth)
        )
        self.density = nn.Linear(width, 1)
        self.bottleneck = nn.Linear(width, width)
        self.seen = nn.Linear(width + 3 + 6 * config.direction_frequencies, width // 2)
        self.colour = nn.Linear(width // 2, 3)
        self.shift = math.log(math.expm1(config.initial_depth / max(self.box.cells)))
        self.register_buffer("depths", torch.ones(self.box.cells))

    def forward(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """Evaluate; nothing outside of the box and in empty cells.  Differentiable in weights and points."""
        flat = points.reshape(-1, 3).to(self.density.weight)
        inside = self.box.contains(flat).nonzero()[:, 0]
        met = flat[inside]
        with without_autocast(points.device):
            position = sines(2 * self.box.unit(met) - 1, self.config.frequencies)
        x = F.relu(self.layers[0](position))
        for number, layer in enumerate(self.layers[1:], 1):
            x = F.relu(layer(torch.cat([x, position], 1) if number == self.config.depth // 2 + 1 else x))
        depth = F.softplus(self.density(x)[:, 0].float() + self.shift)
        density = flat.new_zeros(len(flat)).index_copy(0, inside, (depth / self.box.cell_length(met)).to(flat))
        if directions is None:
            return FieldSamples(density.view(points.shape[:2]), None)
        along = sines(directions.reshape(-1, 3)[inside].to(flat), self.config.direction_frequencies)
        seen = F.relu(self.seen(torch.cat([self.bottleneck(x), along.to(x)], 1)))
        shown = torch.sigmoid(self.colour(seen).float()).to(flat)
        colour = torch.zeros_like(flat).index_copy(0, inside, shown)
        return FieldSamples(density.view(points.shape[:2]), colour.view(points.shape))

    @torch.no_grad()
    def proposal(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """How dense the cells are, without gradient and without asking the network: where the renderer is to look."""
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
        found = [self(part[None], None).density[0] * self.box.cell_length(part) for part in points.split(2**15)]
        self.depths.copy_(torch.maximum(KEPT * self.depths, torch.cat(found).view(self.box.cells)))
        wide = F.max_pool3d(self.depths[None], 3, stride=1, padding=1)[0]
        self.box.occupied.copy_(wide > self.config.min_depth)

    def variation(self, random: ItemRandom) -> Float[Tensor, ""]:
        """None: a network is smooth by itself."""
        return self.depths.new_zeros(())


def sines(values: Float[Tensor, "n d"], octaves: int) -> Float[Tensor, "n features"]:
    """`(x, sin 2^k π x / 2, cos 2^k π x / 2)` of every octave `k` (NeRF, eq. 4, for values in [−1, 1])."""
    scale = 0.5 * math.pi * 2.0 ** torch.arange(octaves, device=values.device, dtype=values.dtype)
    angles = (values[:, None] * scale[:, None]).flatten(1)
    return torch.cat([values, angles.sin(), angles.cos()], 1)
