"""What is made of encoded planes: a transformer on their patches, and convolutions that know the time."""

from __future__ import annotations

import torch
from goembed_core.precision import at_least_float32
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fusion.generation.config import PlaneDenoiserConfig
from goembed_fusion.patches import SMOOTH, interpolate, overlap, plane_transformer


class PlaneNetwork(nn.Module):
    """`unpatch(DiT(patches(ζ_ctxt ‖ ζ_trgt), t))`: a token is a patch of all planes of both, at one place of theirs.

    At first it gives zeros.

    **Arguments:**
    - `planes`, `channels`, `side`: of the signal.
    """

    def __init__(self, config: PlaneDenoiserConfig, planes: int, channels: int, side: int):
        super().__init__()
        self.unpatch, self.patch_size = config.unpatch, config.patch_size
        self.transformer = plane_transformer(
            config, 2 * planes * channels, planes, channels, side, config.checkpoint_blocks
        )
        smooth = config.unpatch == "convolutional"
        self.mix = TimedMix(2 * channels, channels, config.width, config.hidden_size) if smooth else None

    def forward(
        self, given: Float[Tensor, "batch planes c2 r r"], timestep: Num[Tensor, " batch"]
    ) -> Float[Tensor, "batch planes c r r"]:
        """What is to be added to the encodings, which stand beside each other in the channels."""
        found = self.transformer(given.flatten(1, 2), timestep)
        if self.mix is not None:
            found = self.mix(given, found, F.silu(self.transformer.time_embedding(timestep)))
        elif self.unpatch == "overlapping":
            found = overlap(found, self.transformer.config.grid[0], self.patch_size)
        return at_least_float32(found)


class TimedMix(nn.Module):
    """Convolutions of planes beside smooth features of their patches, scaled and shifted by the time.

    No weight knows where in a patch a cell is.
    """

    def __init__(self, given: int, channels: int, width: int, condition: int):
        super().__init__()
        self.first = nn.Conv2d(given + SMOOTH, width, 3, padding=1, padding_mode="replicate")
        self.second = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.last = nn.Conv2d(width, channels, 3, padding=1, padding_mode="replicate")
        self.modulation = nn.Linear(condition, 2 * width)
        for layer in (self.last, self.modulation):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        given: Float[Tensor, "batch planes c2 r r"],
        tokens: Float[Tensor, "batch planes f t t"],
        condition: Float[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch planes c r r"]:
        """Each plane by itself, with the same weights; the features of the tokens are interpolated, twice over."""
        planes, features = given.shape[1], interpolate(tokens, given.shape[-1])
        hidden = self.first(torch.cat([given.flatten(0, 1).to(features), features], 1))
        scale, shift = self.modulation(condition).repeat_interleave(planes, 0)[..., None, None].chunk(2, 1)
        hidden = F.silu(hidden * (1 + scale) + shift)
        hidden = F.silu(self.second(hidden))
        return self.last(hidden).unflatten(0, (-1, planes))
