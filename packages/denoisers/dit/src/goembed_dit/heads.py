"""What the tokens become: an image, a vector, or planes. Every head gives zeros until it is trained."""

from __future__ import annotations

from goembed_dit.block import modulated_norm
from goembed_dit.config import DiTConfig
from jaxtyping import Float
from torch import Tensor, nn


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer that gives zeros."""
    linear = nn.Linear(in_features, out_features)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class PixelHead(nn.Module):
    """Every token becomes its patch of the image (DiT's final layer)."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.grid = config.grid
        self.patch_size = config.patch_size
        self.modulation = zero_linear(config.hidden_size, 2 * config.hidden_size)
        self.linear = zero_linear(config.hidden_size, config.patch_size**2 * config.out_channels)

    def forward(
        self, tokens: Float[Tensor, "batch tokens hidden"], condition: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch channels height width"]:
        """An image of the input's height and width."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        patches = self.linear(modulated_norm(tokens, shift, scale))
        (rows, columns), p = self.grid, self.patch_size
        pixels = patches.reshape(len(patches), rows, columns, p, p, -1).permute(0, 5, 1, 3, 2, 4)
        return pixels.reshape(len(patches), -1, rows * p, columns * p)


class VectorHead(nn.Module):
    """The mean of the tokens becomes one vector by a linear layer."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.modulation = zero_linear(config.hidden_size, 2 * config.hidden_size)
        self.linear = zero_linear(config.hidden_size, config.vector_dim)

    def forward(
        self, tokens: Float[Tensor, "batch tokens hidden"], condition: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch vector"]:
        """One vector per item."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return self.linear(modulated_norm(tokens, shift, scale).mean(dim=1))


class PlaneHead(nn.Module):
    """Every token becomes its part of each of the planes, which lie over the token grid."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        rows, columns = config.grid
        self.grid = config.grid
        self.part = (config.plane_resolution // rows, config.plane_resolution // columns)
        self.num_planes = config.num_planes
        self.modulation = zero_linear(config.hidden_size, 2 * config.hidden_size)
        part_size = self.part[0] * self.part[1] * config.num_planes * config.plane_channels
        self.linear = zero_linear(config.hidden_size, part_size)

    def forward(
        self, tokens: Float[Tensor, "batch tokens hidden"], condition: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch planes channels resolution resolution"]:
        """Square planes."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        parts = self.linear(modulated_norm(tokens, shift, scale))
        (rows, columns), (p, q), planes = self.grid, self.part, self.num_planes
        texels = parts.reshape(len(parts), rows, columns, p, q, planes, -1).permute(0, 5, 6, 1, 3, 2, 4)
        return texels.reshape(len(parts), planes, -1, rows * p, columns * q)


HEADS = {"pixels": PixelHead, "vector": VectorHead, "planes": PlaneHead}
