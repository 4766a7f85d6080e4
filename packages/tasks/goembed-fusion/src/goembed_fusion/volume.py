"""Encoded voxels, improved by convolutions around a transformer on their blocks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from goembed_core.config import ConfigError
from goembed_core.precision import at_least_float32
from goembed_core.protocols import Observations
from goembed_core.trees import tree_map
from goembed_dit.block import DiTBlock
from goembed_triplane.grids import Voxels
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fusion.config import VoxelTransformerConfig

MLP_RATIO = 4.0


class VoxelTransformer(nn.Module):
    """`ζ = ζ_in + network(ζ_in)`, `ζ_in` the voxels that an encoder gives.  At first the network adds nothing.

    **Arguments:**
    - `encoder`: gives voxels, and has the forward model that they are signals of; trained and saved with this.

    **Raises:** ConfigError for an encoder whose signals are no voxels, or a grid that patches do not tile.
    """

    def __init__(self, encoder: nn.Module, config: VoxelTransformerConfig):
        super().__init__()
        representation = encoder.forward_model.decode.representation
        if not isinstance(representation, Voxels):
            raise ConfigError(
                f"a transformer on voxels of {type(representation).__name__}: expected an encoder of voxels; set "
                f"forward_model.name=voxels"
            )
        channels, side = representation.shape[:2]
        if side % config.patch_size:
            raise ConfigError(f"patch_size={config.patch_size} does not divide the grid's resolution={side}")
        self.config, self.encoder = config, encoder
        self.network = VoxelNetwork(config, channels, side)
        self.conformance = encoder.conformance

    @property
    def forward_model(self) -> nn.Module:
        """The encoder's, which the voxels are signals of."""
        return self.encoder.forward_model

    def forward(self, observations: Observations, timestep: Num[Tensor, " batch"] | None = None) -> Tensor:
        """How far from the origin the voxels are; `(B, C, R, R, R)`."""
        return self.refine(self.encoder(observations, timestep))

    def refine(self, voxels: Float[Tensor, "batch c r r r"]) -> Float[Tensor, "batch c r r r"]:
        """What the network makes of encoded voxels; differentiable in them."""
        return voxels + at_least_float32(self.network(voxels))

    def signal(self, observations: Observations, **settings: Any) -> Tensor:
        """The signal that the observations lead to; settings are those of the encoder's own `signal`."""
        origin = self.forward_model.origin(len(observations.values), observations.values.device)
        encoded = tree_map(torch.sub, self.encoder.signal(observations, **settings), origin)
        return tree_map(torch.add, origin, self.refine(encoded))

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, Any]:
        """What the encoder has for an example."""
        return self.encoder.example(batch_size, generator)


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
        self.first = _convolution(channels, widths[0])
        self.down = nn.ModuleList(_convolution(before, after, stride=2) for before, after in pairwise(widths))
        tokens = (side // config.patch_size) ** 3
        self.positions = nn.Parameter(torch.randn(tokens, config.hidden_size) / math.sqrt(config.hidden_size))
        self.condition = nn.Parameter(torch.ones(config.hidden_size))  # there is no time to tell
        self.blocks = nn.ModuleList(
            DiTBlock(config.hidden_size, config.num_heads, MLP_RATIO) for _ in range(config.depth)
        )
        self.up = nn.ModuleList(_convolution(below + beside, beside) for beside, below in pairwise(widths))
        self.last = _convolution(widths[0], channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, voxels: Float[Tensor, "batch c r r r"]) -> Float[Tensor, "batch c r r r"]:
        """What is to be added."""
        x, beside = F.silu(self.first(voxels)), []
        for halve in self.down:
            beside.append(x)
            x = F.silu(halve(x))
        tokens, shape = x.flatten(2).mT + self.positions, x.shape[2:]
        condition = F.silu(self.condition).expand(len(voxels), -1)
        for block in self.blocks:
            tokens = block(tokens, condition)
        x = tokens.mT.unflatten(2, shape)
        for widen, other in zip(reversed(self.up), reversed(beside), strict=True):
            x = F.interpolate(x, other.shape[2:], mode="trilinear", align_corners=False)
            x = F.silu(widen(torch.cat([x, other], 1)))
        return self.last(x)


def from_config(config: VoxelTransformerConfig) -> VoxelTransformer:
    """A transformer behind the encoder that its settings name."""
    return VoxelTransformer(config.encoder.build(), config)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1)
