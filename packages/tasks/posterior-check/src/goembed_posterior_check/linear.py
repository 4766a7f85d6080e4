"""A linear forward model: what is seen of a vector is a few numbers, each a sum of its own with known weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.shapes import require_views
from goembed_core.traits import ForwardModelTraits
from jaxtyping import Float
from torch import Tensor, nn

from goembed_posterior_check.config import LinearConfig


class Projection(NamedTuple):
    """`φ` of the linear forward model."""

    matrix: Float[Tensor, "batch views observed dim"]


class LinearForward(nn.Module):
    """`O = A(φ) S`; differentiable in the signal, not meant to be in the matrix."""

    conformance = ForwardModelTraits(compiles=True, vmaps=True)

    def __init__(self, config: LinearConfig):
        super().__init__()
        self.config = config

    def forward(self, signal: Float[Tensor, "batch dim"], params: Projection) -> Float[Tensor, "batch views observed"]:
        """Observe every signal through each of its projections."""
        if signal.dim() != 2 or signal.shape[1] != self.config.dim:
            raise UserError(f"the signal has shape {tuple(signal.shape)}, expected (batch, dim={self.config.dim})")
        require_views(params, len(signal), matrix=(self.config.observed, self.config.dim))
        return torch.einsum("bvod,bd->bvo", params.matrix.to(signal.dtype), signal)

    def origin(self, batch_size: int, device: torch.device) -> Float[Tensor, "batch dim"]:
        """Zeros."""
        return torch.zeros(batch_size, self.config.dim, device=device)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Projection]:
        """Random signals, and two random projections each."""
        signal = torch.randn(batch_size, self.config.dim, generator=generator)
        matrix = torch.randn(batch_size, 2, self.config.observed, self.config.dim, generator=generator)
        return signal, Projection(matrix)
