"""A representation of one scene, learned with its decoder: a field that `task=fit_scene` can fit."""

from __future__ import annotations

import torch
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from goembed_core.traits import RadianceFieldTraits
from goembed_core.trees import named_leaves, tree_map
from goembed_nerf_renderer.boxes import BoxedField
from jaxtyping import Float
from torch import Tensor, nn

from goembed_triplane.config import LearnedConfig
from goembed_triplane.decoders import Decoder
from goembed_triplane.model import represent
from goembed_triplane.networks import Siren

KEPT, BEFORE = 0.8, 0.1  # of a cell's depth at each look; what it is before


class LearnedField(BoxedField):
    """`(σ, c) = decode(features(ζ, x))` of one signal `ζ`."""

    def __init__(self, config: LearnedConfig):
        super().__init__(config, config.occupancy_cells, BEFORE, KEPT)
        self.conformance = RadianceFieldTraits(
            view_dependent=config.decoder.harmonics > 0,
            expected_failures={
                "device": "which points are in the box, and how many, is read back: others cost nothing"
            },
        )
        self.representation = represent(config)
        self.decoder = Decoder(config.decoder, self.representation.channels)
        spread = 0.0 if isinstance(self.representation, Siren) else config.initial_spread
        origin = self.representation.origin(1, torch.device("cpu"))
        leaves = [leaf + spread * torch.randn_like(leaf) for leaf in named_leaves(origin, "signal").values()]
        self.leaves = nn.ParameterList(leaves)

    @property
    def signal(self) -> Tensor | tuple:
        """`ζ`, of one signal."""
        leaves = iter(self.leaves)
        return tree_map(lambda _: next(leaves), self.representation.origin(1, torch.device("meta")))

    def within(
        self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"] | None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"] | None]:
        """What the decoder makes of the features there."""
        with without_autocast(points.device):
            places = (2 * self.box.unit(points) - 1)[None]
        outputs = self.decoder(self.representation.features(self.signal, places), places)
        along = None if directions is None else directions[None]
        everywhere = torch.ones(1, len(points), dtype=torch.bool, device=points.device)
        found = self.decoder.shade(outputs, along, everywhere)
        return found.density[0], None if found.colour is None else found.colour[0]

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
