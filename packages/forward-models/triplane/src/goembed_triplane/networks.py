"""A network of sines whose weights are the signal."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.precision import at_least_float32, without_autocast
from jaxtyping import Float
from torch import Tensor, nn

from goembed_triplane.config import SirenConfig
from goembed_triplane.grids import require_signal


class SirenWeights(NamedTuple):
    """The layers of a network; `ζ` of `Siren`.  The last column of each is its bias."""

    first: Float[Tensor, "batch h 4"]
    hidden: Float[Tensor, "batch depth h h1"]
    last: Float[Tensor, "batch c h1"]


class Siren(nn.Module):
    """`f(x) = W_L h_L + b_L`, `h_l = sin(ω (W_l h_{l−1} + b_l))` (Sitzmann et al. 2020): `ζ` is the weights.

    Its origin is a fixed random network: were the weights zero, no gradient would reach any but the last bias.
    """

    def __init__(self, config: SirenConfig):
        super().__init__()
        self.config = config
        self.channels = config.channels
        width, draw = config.hidden_size, torch.Generator().manual_seed(config.seed)
        self.shapes = SirenWeights((width, 4), (config.depth, width, width + 1), (config.channels, width + 1))
        inner = math.sqrt(6 / width) / config.frequency
        for name, shape, bound in zip(SirenWeights._fields, self.shapes, (1 / 3, inner, inner), strict=True):
            weights = bound * (2 * torch.rand(shape, generator=draw) - 1)
            if name != "first":
                weights[..., -1] = 0
            self.register_buffer(f"origin_{name}", weights)

    def origin(self, batch_size: int, device: torch.device) -> SirenWeights:
        """The fixed random network."""
        leaves = (self.get_buffer(f"origin_{name}").to(device) for name in SirenWeights._fields)
        return SirenWeights(*(leaf.repeat(batch_size, *[1] * leaf.dim()) for leaf in leaves))

    def features(self, signal: SirenWeights, places: Float[Tensor, "batch n 3"]) -> Float[Tensor, "batch n c"]:
        """The output of each network at its own places; in float32 or better, differentiable in both."""
        require_signal(signal, self.shapes, len(places))
        with without_autocast(places.device):
            first, hidden, last = (at_least_float32(leaf) for leaf in signal)
            x = self._sines(first, places.to(first))
            for layer in range(self.config.depth):
                x = self._sines(hidden[:, layer], x)
            return _affine(last, x)

    def _sines(self, weights: Tensor, x: Float[Tensor, "batch n a"]) -> Float[Tensor, "batch n h"]:
        return torch.sin(self.config.frequency * _affine(weights, x))


def _affine(weights: Float[Tensor, "batch b a1"], x: Float[Tensor, "batch n a"]) -> Float[Tensor, "batch n b"]:
    return torch.baddbmm(weights[..., -1][:, None], x, weights[..., :-1].mT)
