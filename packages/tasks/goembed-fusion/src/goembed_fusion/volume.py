"""Encoded voxels, improved by convolutions around a transformer on their blocks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from goembed_core.precision import at_least_float32
from goembed_dit.block import DiTBlock
from goembed_triplane.grids import Voxels
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fusion.config import VoxelTransformerConfig
from goembed_fusion.grids import GridTransformer

MLP_RATIO = 4.0


class Modulation(NamedTuple):
    """What a time does to a network of voxels."""

    condition: Float[Tensor, "batch hidden"]  # of the transformer, beside what it has learned
    levels: list[Float[Tensor, "batch w2"]]  # scale and shift of the features on each way back


class VoxelTransformer(GridTransformer):
    """`ζ = ζ_in + network(ζ_in)`, `ζ_in` the voxels that an encoder gives.  At first the network adds nothing."""

    def __init__(self, encoder: nn.Module, config: VoxelTransformerConfig):
        super().__init__(encoder, config, Voxels, "voxels")
        channels, side = encoder.forward_model.decode.representation.shape[:2]
        self.network = VoxelNetwork(config, channels, side)

    def refine(self, grids: Float[Tensor, "batch c r r r"]) -> Float[Tensor, "batch c r r r"]:
        """What the network makes of encoded voxels; differentiable in them."""
        return grids + at_least_float32(self.network(grids))


class VoxelNetwork(nn.Module):
    """`up(blocks(down(ζ)))`: a transformer on blocks of voxels, within convolutions.

    Convolutions halve the grid until a cell is what was a patch, which is a token; convolutions of interpolated
    features beside those from before each halving lead back, so that no weight knows where in a patch a cell is.  Its
    last layer is zero at first.
    """

    def __init__(self, config: VoxelTransformerConfig, channels: int, side: int):
        super().__init__()
        halvings = config.patch_size.bit_length() - 1
        widths = [config.width * 2**level for level in range(halvings)] + [config.hidden_size]
        self.widths = widths[:-1][::-1]  # of the features on the way back
        self.first = _convolution(channels, widths[0])
        self.down = nn.ModuleList(_convolution(before, after, stride=2) for before, after in pairwise(widths))
        tokens = (side // config.patch_size) ** 3
        self.positions = nn.Parameter(torch.randn(tokens, config.hidden_size) / math.sqrt(config.hidden_size))
        self.condition = nn.Parameter(torch.ones(config.hidden_size))  # where there is no time to tell
        self.blocks = nn.ModuleList(
            DiTBlock(config.hidden_size, config.num_heads, MLP_RATIO) for _ in range(config.depth)
        )
        self.up = nn.ModuleList(_convolution(below + beside, beside) for beside, below in pairwise(widths))
        self.last = _convolution(widths[0], channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, voxels: Float[Tensor, "batch c r r r"], time: Modulation | None = None
    ) -> Float[Tensor, "batch c r r r"]:
        """What is to be added."""
        x, beside = F.silu(self.first(voxels)), []
        for halve in self.down:
            beside.append(x)
            x = F.silu(halve(x))
        tokens, shape = x.flatten(2).mT + self.positions, x.shape[2:]
        told = self.condition if time is None else self.condition + time.condition
        condition = F.silu(told).expand(len(voxels), -1)
        for block in self.blocks:
            tokens = block(tokens, condition)
        x = tokens.mT.unflatten(2, shape)
        for level, (widen, other) in enumerate(zip(reversed(self.up), reversed(beside), strict=True)):
            x = F.interpolate(x, other.shape[2:], mode="trilinear", align_corners=False)
            x = widen(torch.cat([x, other], 1))
            if time is not None:
                scale, shift = time.levels[level][..., None, None, None].chunk(2, 1)
                x = x * (1 + scale) + shift
            x = F.silu(x)
        return self.last(x)


def from_config(config: VoxelTransformerConfig) -> VoxelTransformer:
    """A transformer behind the encoder that its settings name."""
    return VoxelTransformer(config.encoder.build(), config)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1)
