"""Sines and cosines of coordinates."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def encode_position(
    points: Float[Tensor, "*n d"], octaves: int, first_frequency: Float[Tensor, "*#m 1 1"]
) -> Float[Tensor, "*n encoded"]:
    """`[x, sin(f_k x), cos(f_k x)]` with `f_k = 2^k f_0`, `k < octaves` (NeRF eq. 4)."""
    factors = 2.0 ** torch.arange(octaves, device=points.device, dtype=points.dtype)
    angles = (points[..., None] * (first_frequency * factors)).flatten(-2)
    return torch.cat([points, angles.sin(), angles.cos()], -1)


def encoded_size(octaves: int, dims: int = 3) -> int:
    """How many numbers `encode_position` makes of a point."""
    return dims * (1 + 2 * octaves)
