"""Several motions that could be, and what is then seen on average: signals whose image can be a mean of futures."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.trees import tree_map
from goembed_softsplat_warp.model import MovingImage, SoftsplatWarp, WarpTime
from jaxtyping import Float
from torch import Tensor, nn


class PossibleMotions(NamedTuple):
    """One image, `K` ways in which it may move, and how probable each is."""

    colour: Float[Tensor, "batch channels height width"]
    motion: Float[Tensor, "batch futures 2 height width"]  # in pixels (x, y), from time 0 to time 1
    metric: Float[Tensor, "batch futures 1 height width"]
    probability: Float[Tensor, "batch futures"]  # adds up to 1

    def likeliest(self) -> MovingImage:
        """The most probable one."""
        rows, chosen = torch.arange(len(self.motion), device=self.motion.device), self.probability.argmax(1)
        return MovingImage(self.colour, self.motion[rows, chosen], self.metric[rows, chosen])

    def each(self) -> MovingImage:
        """All of them, leaves `(B K, ...)`."""
        colour = self.colour.repeat_interleave(self.motion.shape[1], 0)
        return MovingImage(colour, self.motion.flatten(0, 1), self.metric.flatten(0, 1))


class MixedWarp(nn.Module):
    """`forward(S, t) = Σ_k p_k warp(S_k, t)`: what is seen on average.

    The estimate that a diffusion step needs is the mean of all that could have been observed, and no single warp shows
    the mean of two futures; where the best warp is taken for it, sampling drifts to one of them.
    """

    def __init__(self, warp: SoftsplatWarp):
        super().__init__()
        self.warp = warp

    def forward(self, signal: PossibleMotions, params: WarpTime) -> Float[Tensor, "batch views channels height width"]:
        """Each possible motion warped, and averaged by its probability."""
        futures = signal.motion.shape[1]
        repeated = tree_map(lambda leaf: leaf.repeat_interleave(futures, 0), params)
        shown = self.warp(signal.each(), repeated).unflatten(0, (-1, futures))
        return (shown * signal.probability[..., None, None, None, None]).sum(1)
