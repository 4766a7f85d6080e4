"""Patches, positions and timesteps as vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Num
from torch import Tensor, nn

MAX_PERIOD = 10_000.0


class PatchEmbedding(nn.Module):
    """Cuts an image into squares and makes a token of each by one linear map."""

    def __init__(self, in_channels: int, patch_size: int, hidden_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.linear = nn.Linear(in_channels * patch_size**2, hidden_size)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch tokens hidden"]:
        """Tokens row by row."""
        p = self.patch_size
        return self.linear(rearrange(image, "b c (rows p) (columns q) -> b (rows columns) (c p q)", p=p, q=p))


class TimeEmbedding(nn.Module):
    """Sines and cosines of the timestep, then a two-layer MLP."""

    def __init__(self, frequency_dim: int, hidden_size: int):
        super().__init__()
        self.frequency_dim = frequency_dim
        self.linear_in = nn.Linear(frequency_dim, hidden_size)
        self.linear_out = nn.Linear(hidden_size, hidden_size)
        for linear in (self.linear_in, self.linear_out):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, timestep: Num[Tensor, " batch"]) -> Float[Tensor, "batch hidden"]:
        """One vector per timestep, which may be an integer or lie between two."""
        waves = timestep_waves(timestep, self.frequency_dim, at_least_float32(self.linear_in.weight.dtype))
        return self.linear_out(F.silu(self.linear_in(waves.to(self.linear_in.weight.dtype))))


def timestep_waves(timestep: Num[Tensor, " batch"], dim: int, dtype: torch.dtype) -> Float[Tensor, "batch {dim}"]:
    """`[cos(t f_k), sin(t f_k)]` with `f_k = 10000^(-2k/dim)`, `k < dim/2`."""
    exponent = torch.arange(dim // 2, dtype=dtype, device=timestep.device) / (dim // 2)
    angle = timestep.to(dtype)[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def position_embedding(rows: int, columns: int, dim: int) -> Float[Tensor, "{rows*columns} {dim}"]:
    """`[sin(x f), cos(x f), sin(y f), cos(y f)]` of each token's column x and row y, with `f_k = 10000^(-4k/dim)`."""
    exponent = torch.arange(dim // 4, dtype=torch.float64) / (dim // 4)
    frequency = torch.exp(-math.log(MAX_PERIOD) * exponent)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    waves = [wave(axis.reshape(-1, 1) * frequency) for axis in (x, y) for wave in (torch.sin, torch.cos)]
    return torch.cat(waves, dim=-1).float()


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """float32 for the half-width types, whose 8 to 11 bits cannot tell timestep 999 from 998."""
    return dtype if dtype == torch.float64 else torch.float32
