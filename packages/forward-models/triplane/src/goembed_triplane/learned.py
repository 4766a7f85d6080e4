"""A representation of one scene, learned with its decoder: a field that `task=fit_scene` can fit."""

from __future__ import annotations

import torch
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from goembed_core.trees import named_leaves, tree_map
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.fields import FieldSamples
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_triplane.config import LearnedConfig
from goembed_triplane.decoders import Decoder
from goembed_triplane.model import represent
from goembed_triplane.networks import Siren

KEPT = 0.8  # of what a cell's depth was, at each look: a thin thing that one look misses is not forgotten at once
BEFORE = 0.1  # depth of a cell that was not looked at
PART = 2**15  # points looked at together


class LearnedField(nn.Module):
    """`(σ, c) = decode(features(ζ, x))` of one signal `ζ`, for points of any batch.

    How dense each cell of the box was when it was last looked at is kept: it tells the renderer where to look, and
    which cells are empty (instant-ngp, §5.2).
    """

    def __init__(self, config: LearnedConfig):
        super().__init__()
        self.config = config
        self.box = FieldBox(config, config.occupancy_cells)
        self.representation = represent(config)
        self.decoder = Decoder(config.decoder, self.representation.channels)
        spread = 0.0 if isinstance(self.representation, Siren) else config.initial_spread
        origin = self.representation.origin(1, torch.device("cpu"))
        leaves = [leaf + spread * torch.randn_like(leaf) for leaf in named_leaves(origin, "signal").values()]
        self.leaves = nn.ParameterList(leaves)
        self.register_buffer("depths", torch.full(self.box.cells, BEFORE))

    @property
    def signal(self) -> Tensor | tuple:
        """`ζ`, of one signal."""
        leaves = iter(self.leaves)
        return tree_map(lambda _: next(leaves), self.representation.origin(1, torch.device("meta")))

    def forward(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """Evaluate; nothing outside of the box and in empty cells.  Differentiable in weights and points."""
        flat = points.reshape(-1, 3).to(self.leaves[0])
        inside = self.box.contains(flat).nonzero()[:, 0]
        met = flat[inside]
        with without_autocast(points.device):
            places = (2 * self.box.unit(met) - 1)[None]
        outputs = self.decoder(self.representation.features(self.signal, places), places)
        along = None if directions is None else directions.reshape(-1, 3)[inside][None]
        everywhere = torch.ones(1, len(met), dtype=torch.bool, device=flat.device)
        found = self.decoder.shade(outputs, along, everywhere)
        density = flat.new_zeros(len(flat)).index_copy(0, inside, found.density[0].to(flat)).view(points.shape[:2])
        if found.colour is None:
            return FieldSamples(density, None)
        colour = torch.zeros_like(flat).index_copy(0, inside, found.colour[0].to(flat))
        return FieldSamples(density, colour.view(points.shape))

    @torch.no_grad()
    def proposal(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """How dense the cells are, without gradient and without the decoder: where the renderer is to look."""
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
        self.depths.copy_(torch.maximum(KEPT * self.depths, torch.cat(found).view(self.box.cells)))
        wide = F.max_pool3d(self.depths[None], 3, stride=1, padding=1)[0]
        self.box.occupied.copy_(wide > self.config.min_depth)

    def variation(self, random: ItemRandom) -> Float[Tensor, ""]:
        """Total variation of the feature at a place that each item draws: steps of a cell of the box along the axes."""
        if isinstance(self.representation, Siren):
            return self.leaves[0].new_zeros(())  # a network is smooth by itself
        step = 2 / self.representation.config.resolution
        place = (2 - step) * random.rand(3).to(self.leaves[0]) - 1
        moved = place[:, None] + step * torch.eye(3, device=place.device)
        places = torch.cat([place[:, None], moved], 1).reshape(1, -1, 3)
        values = self.representation.features(self.signal, places).view(len(place), 4, -1)
        squares = (values[:, 1:] - values[:, :1]).square().sum(1)
        return (squares + 1e-6).sqrt().mean()
