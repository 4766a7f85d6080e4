"""Forward models with an origin that need no other package: a linear one, and a network like a GAN's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.protocols import Observations
from goembed_core.shapes import require_views
from goembed_core.trees import tree_map
from torch import Tensor, nn
from torch.nn import functional as F


class Rows(NamedTuple):
    """`φ` of the linear model."""

    matrix: Tensor  # (B, V, observed, dim)


class Linear(nn.Module):
    """`O = A(φ) S`."""

    def __init__(self, dim=6, observed=3):
        super().__init__()
        self.dim, self.observed = dim, observed

    def forward(self, signal, params):
        require_views(params, len(signal), matrix=(self.observed, self.dim))
        return torch.einsum("bvod,bd->bvo", params.matrix.to(signal.dtype), signal)

    def origin(self, batch_size, device):
        return torch.zeros(batch_size, self.dim, device=device)

    def example(self, batch_size, generator):
        matrix = torch.randn(batch_size, 2, self.observed, self.dim, generator=generator)
        return torch.randn(batch_size, self.dim, generator=generator), Rows(matrix)


class Gain(NamedTuple):
    """`φ` of the network: how bright each observation is."""

    gain: Tensor  # (B, V)


class Parts(NamedTuple):
    """A signal of two leaves."""

    shape: Tensor  # (B, 4, 2, 2)
    tone: Tensor  # (B,)


class Network(nn.Module):
    """Transposed convolutions with smooth activations, as a GAN's generator; the signal has two leaves."""

    def __init__(self, width=8, seed=0):
        super().__init__()
        self.first = nn.ConvTranspose2d(4, width, 4, 2, 1)
        self.last = nn.ConvTranspose2d(width, 2, 4, 2, 1)
        generator = torch.Generator().manual_seed(seed)
        for weight in self.parameters():
            with torch.no_grad():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))

    def forward(self, signal, params):
        require_views(params, len(signal.tone), gain=())
        image = torch.sigmoid(self.last(F.elu(self.first(signal.shape))) + signal.tone[:, None, None, None])
        return image[:, None] * params.gain[:, :, None, None, None]

    def origin(self, batch_size, device):
        return Parts(torch.zeros(batch_size, 4, 2, 2, device=device), torch.zeros(batch_size, device=device))

    def example(self, batch_size, generator):
        shape = torch.randn(batch_size, 4, 2, 2, generator=generator)
        tone = torch.randn(batch_size, generator=generator)
        return Parts(shape, tone), Gain(0.5 + torch.rand(batch_size, 3, generator=generator))


def observed(model: nn.Module, batch: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64):
    """Observations of other signals than the origin, in another dtype."""
    signal, params = model.example(batch, torch.Generator().manual_seed(seed))
    signal, params = (tree_map(lambda leaf: leaf.to(dtype), tree) for tree in (signal, params))
    with torch.no_grad():
        return Observations(model.to(dtype)(signal, params), params)
