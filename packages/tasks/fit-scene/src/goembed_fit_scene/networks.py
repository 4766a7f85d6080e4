"""NeRF's network, which is asked only where something may be."""

from __future__ import annotations

import math

import torch
from goembed_core.precision import at_least_float32, without_autocast
from goembed_core.randomness import ItemRandom
from goembed_core.traits import RadianceFieldTraits
from goembed_nerf_renderer.boxes import BoxedField
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fit_scene.config import MLPFieldConfig

KEPT = 0.95  # of a cell's depth at each look


class MLPField(BoxedField):
    """NeRF (Mildenhall et al. 2020, §5): sines of position and direction, layers, density, then the colour."""

    conformance = RadianceFieldTraits(
        expected_failures={"device": "which points may be empty is read back, so that the others alone are computed"}
    )

    def __init__(self, config: MLPFieldConfig):
        super().__init__(config, config.occupancy_cells, 0.0, KEPT)
        width, position = config.hidden_size, 3 + 6 * config.frequencies
        self.layers = nn.ModuleList(
            nn.Linear({0: position, config.depth // 2 + 1: width + position}.get(n, width), width)
            for n in range(config.depth)
        )
        self.density = nn.Linear(width, 1)
        self.bottleneck = nn.Linear(width, width)
        self.seen = nn.Linear(width + 3 + 6 * config.direction_frequencies, width // 2)
        self.colour = nn.Linear(width // 2, 3)
        unfitted = config.initial_depth / max(self.box.cells)
        self.shift = math.log(math.expm1(unfitted))
        self.depths.fill_(unfitted)

    def within(
        self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"] | None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"] | None]:
        """What the network says."""
        with without_autocast(points.device):
            position = sines(2 * self.box.unit(points) - 1, self.config.frequencies)
        x = F.relu(self.layers[0](position))
        for number, layer in enumerate(self.layers[1:], 1):
            x = F.relu(layer(torch.cat([x, position], 1) if number == self.config.depth // 2 + 1 else x))
        depth = F.softplus(at_least_float32(self.density(x)[:, 0]) + self.shift)
        density = depth / self.box.cell_length(points)
        if directions is None:
            return density, None
        along = sines(directions.to(points), self.config.direction_frequencies)
        seen = F.relu(self.seen(torch.cat([self.bottleneck(x), along.to(x)], 1)))
        return density, torch.sigmoid(at_least_float32(self.colour(seen)))

    def variation(self, random: ItemRandom) -> Float[Tensor, ""]:
        """None: a network is smooth by itself."""
        return self.depths.new_zeros(())


def sines(values: Float[Tensor, "n d"], octaves: int) -> Float[Tensor, "n features"]:
    """`(x, sin 2^k π x / 2, cos 2^k π x / 2)` of every octave `k` (NeRF, eq. 4, for values in [−1, 1])."""
    scale = 0.5 * math.pi * 2.0 ** torch.arange(octaves, device=values.device, dtype=values.dtype)
    angles = (values[:, None] * scale[:, None]).flatten(1)
    return torch.cat([values, angles.sin(), angles.cos()], 1)
