"""The patches of planes: what a transformer's tokens become, and how they are laid out."""

from __future__ import annotations

import torch
from einops import rearrange
from goembed_dit.config import DiTConfig
from goembed_dit.network import DiT
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from goembed_fusion.config import PlaneNetworkConfig

SMOOTH = 16  # features of a token in each plane, where they are interpolated


def plane_transformer(
    config: PlaneNetworkConfig, given: int, planes: int, channels: int, side: int, checkpoint_blocks: bool = False
) -> DiT:
    """A transformer whose tokens are patches of all planes at one place of theirs, and become what is un-patched.

    **Arguments:**
    - `given`: channels of all planes together that are seen.
    - `planes`, `channels`, `side`: of the signal.
    """
    smooth = config.unpatch == "convolutional"
    resolution = {"convolutional": side // config.patch_size, "overlapping": 2 * side, "linear": side}
    return DiT(
        DiTConfig(
            in_channels=given,
            height=side,
            width=side,
            patch_size=config.patch_size,
            hidden_size=config.hidden_size,
            depth=config.depth,
            num_heads=config.num_heads,
            checkpoint_blocks=checkpoint_blocks,
            head="planes",
            head_std=0.02 if smooth else 0.0,
            num_planes=planes,
            plane_channels=SMOOTH if smooth else channels,
            plane_resolution=resolution[config.unpatch],
        )
    )


def interpolate(tokens: Float[Tensor, "batch planes f t t"], side: int) -> Float[Tensor, "batch_planes f side side"]:
    """The features of tokens at each cell of their planes, interpolated twice over: without a kink at any patch."""
    size = side // tokens.shape[-1]
    features = F.interpolate(tokens.flatten(0, 1), (side, side), mode="bilinear", align_corners=False)
    border = (size // 2, size - 1 - size // 2) * 2
    return F.avg_pool2d(F.pad(features, border, mode="replicate"), size, stride=1)


def overlap(
    blocks: Float[Tensor, "batch planes c r2 r2"], tokens: int, patch_size: int
) -> Float[Tensor, "batch planes c r r"]:
    """Patches of `2p` cells a side, one beside the other in `blocks`, laid over each other `p` apart and added up.

    Each fades out towards its borders, by `sin²`, so that the weights of the four patches over a cell are one: no seam
    is at the same place of every patch.  At the borders of a plane, where there are fewer, they are divided by what
    they are together.
    """
    batch, planes, channels, side, _ = blocks.shape
    size = 2 * patch_size
    rows = rearrange(blocks, "b n c (i p) (j q) -> (b n) (c p q) (i j)", i=tokens, j=tokens)
    place = (torch.arange(size, device=blocks.device, dtype=blocks.dtype) + 0.5) / size
    fade = (torch.pi * place).sin().square()
    window = (fade[:, None] * fade).flatten()

    def folded(columns: Tensor) -> Tensor:
        return F.fold(columns, (side // 2, side // 2), size, padding=patch_size // 2, stride=patch_size)

    weights = window.repeat(channels)[None, :, None]
    total = folded(window[None, :, None].expand(1, -1, tokens**2))
    return (folded(rows * weights) / total).unflatten(0, (batch, planes))
