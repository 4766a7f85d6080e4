"""What the tokens become: an image, a vector, or planes. Every head gives zeros until it is trained, unless told
otherwise.
"""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from goembed_dit.block import modulated_norm
from goembed_dit.config import DiTConfig

MOST_VECTOR_INPUTS = 4096  # numbers of all tokens together that the vector head's own layers read


def zero_linear(in_features: int, out_features: int, std: float = 0.0) -> nn.Linear:
    """A linear layer that gives zeros, or with `std` small random numbers."""
    linear = nn.Linear(in_features, out_features)
    nn.init.normal_(linear.weight, std=std) if std else nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class PixelHead(nn.Module):
    """Every token becomes its patch of the image (DiT's final layer)."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.rows, self.columns = config.grid
        self.patch_size = config.patch_size
        self.modulation = zero_linear(config.hidden_size, 2 * config.hidden_size)
        self.linear = zero_linear(config.hidden_size, config.patch_size**2 * config.out_channels, config.head_std)

    def forward(
        self, tokens: Float[Tensor, "batch tokens hidden"], condition: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch channels height width"]:
        """An image of the input's height and width."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return rearrange(
            self.linear(modulated_norm(tokens, shift, scale)),
            "b (rows columns) (p q channels) -> b channels (rows p) (columns q)",
            rows=self.rows,
            columns=self.columns,
            p=self.patch_size,
            q=self.patch_size,
        )


class VectorHead(nn.Module):
    """Every token adds to the vector by a linear layer of its own, so that where a token lies counts.

    A mean over tokens before one common layer loses the places: it learnt GAN inversion at about half the pace.  Many
    or wide tokens are first reduced, by a layer that they share, so that the head stays small.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        num_tokens = config.grid[0] * config.grid[1]
        width = min(config.hidden_size, max(1, MOST_VECTOR_INPUTS // num_tokens))
        self.modulation = zero_linear(config.hidden_size, 2 * config.hidden_size)
        self.reduce = nn.Linear(config.hidden_size, width) if width < config.hidden_size else nn.Identity()
        self.linear = zero_linear(num_tokens * width, config.vector_dim, config.head_std)

    def forward(
        self, tokens: Float[Tensor, "batch tokens hidden"], condition: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch vector"]:
        """One vector per item."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return self.linear(self.reduce(modulated_norm(tokens, shift, scale)).flatten(1))


class PlaneHead(nn.Module):
    """Every token becomes its part of each of the planes, which lie over the token grid."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.rows, self.columns = config.grid
        self.num_planes = config.num_planes
        self.plane_channels = config.plane_channels
        num_texels = config.plane_resolution**2 // (self.rows * self.columns)
        self.modulation = zero_linear(config.hidden_size, 2 * config.hidden_size)
        size = config.num_planes * config.plane_channels * num_texels
        self.linear = zero_linear(config.hidden_size, size, config.head_std)
        self.texel_rows = config.plane_resolution // self.rows

    def forward(
        self, tokens: Float[Tensor, "batch tokens hidden"], condition: Float[Tensor, "batch hidden"]
    ) -> Float[Tensor, "batch planes channels resolution resolution"]:
        """Square planes."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return rearrange(
            self.linear(modulated_norm(tokens, shift, scale)),
            "b (rows columns) (p q planes channels) -> b planes channels (rows p) (columns q)",
            rows=self.rows,
            columns=self.columns,
            p=self.texel_rows,
            planes=self.num_planes,
            channels=self.plane_channels,
        )


HEADS = {"pixels": PixelHead, "vector": VectorHead, "planes": PlaneHead}
