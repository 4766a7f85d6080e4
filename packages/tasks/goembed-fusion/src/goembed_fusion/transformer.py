"""Encoded planes, improved by a transformer on their patches."""

from __future__ import annotations

import torch
from goembed_core.precision import at_least_float32
from goembed_triplane.grids import Triplane
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fusion.config import PlaneTransformerConfig
from goembed_fusion.grids import GridTransformer
from goembed_fusion.patches import SMOOTH, interpolate, overlap, plane_transformer

WIDTH = 32  # of the convolutions


class PlaneTransformer(GridTransformer):
    """`ζ = ζ_in + unpatch(DiT(patches(ζ_in)))`, `ζ_in` the triplane that an encoder gives.

    A token is a patch of all three planes at one place of theirs.  At first the network adds nothing.
    """

    def __init__(self, encoder: nn.Module, config: PlaneTransformerConfig):
        super().__init__(encoder, config, Triplane, "triplane")
        _, channels, side, _ = encoder.forward_model.decode.representation.shape
        self.network = plane_transformer(config, 3 * channels, 3, channels, side)
        self.mix = Mix(channels) if config.unpatch == "convolutional" else None

    def refine(self, grids: Float[Tensor, "batch 3 c r r"]) -> Float[Tensor, "batch 3 c r r"]:
        """What the network makes of encoded planes; differentiable in them."""
        time = torch.zeros(len(grids), device=grids.device)
        added = self.network(grids.flatten(1, 2), time)
        if self.mix is not None:
            added = self.mix(grids, added)
        elif self.config.unpatch == "overlapping":
            added = overlap(added, self.network.config.grid[0], self.config.patch_size)
        return grids + at_least_float32(added)


class Mix(nn.Module):
    """Convolutions of planes beside smooth features of their patches: no weight knows where in a patch a cell is."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels + SMOOTH, WIDTH, 3, padding=1, padding_mode="replicate")
        self.last = nn.Conv2d(WIDTH, channels, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, planes: Float[Tensor, "batch 3 c r r"], tokens: Float[Tensor, "batch 3 f t t"]
    ) -> Float[Tensor, "batch 3 c r r"]:
        """Each plane by itself, with the same weights; the features of the tokens are interpolated, twice over."""
        features = interpolate(tokens, planes.shape[-1])
        mixed = F.silu(self.first(torch.cat([planes.flatten(0, 1), features], 1)))
        return self.last(mixed).unflatten(0, planes.shape[:2])


def from_config(config: PlaneTransformerConfig) -> PlaneTransformer:
    """A transformer behind the encoder that its settings name."""
    return PlaneTransformer(config.encoder.build(), config)
