"""Many contexts sampled in batches, whatever their number."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig
from goembed_core.precision import autocast
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import concatenate, repeat_items, select_items
from goembed_softsplat_warp.model import MovingImage, WarpTime
from jaxtyping import Float
from torch import Tensor

from goembed_motion.futures import PossibleMotions
from goembed_motion.model import Model


class Motions(NamedTuple):
    """Moving images, and what they show at time 1."""

    signal: MovingImage  # the likeliest, leaves (N, ...)
    target: Float[Tensor, "n 3 height width"]
    probability: Float[Tensor, " n"]  # that the network gives it: 1 where it has made up its mind


class Solver:
    """A model, with the seed and batch size of one evaluation; every random number belongs to the item."""

    def __init__(
        self, model: Model, seed: int, batch_size: int, device: torch.device | str = "cpu", precision: str = "no"
    ):
        self.model, self.seed, self.batch_size, self.device = model, seed, batch_size, torch.device(device)
        self.precision = precision

    @torch.no_grad()
    def samples(
        self, images: Float[Tensor, "b 3 height width"], count: int, sampler: SamplerConfig, stream: str = "sample"
    ) -> Motions:
        """`count` samples of each image, next to each other: `(B * count, ...)`."""
        context, found = repeat_items(_at_rest(images), count), []
        for start in range(0, len(context.values), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(context.values)))
            part = select_items(context, slice(rows.start, rows.stop))
            random = ItemRandom(self.seed, rows, f"evaluation {stream}", self.device)
            end = WarpTime(torch.ones(len(rows), 1, device=self.device))
            with autocast(self.precision, self.device):
                sample = self.model.dfm.sample(part, end, (1, *images.shape[1:]), sampler, random)
            found.append(self._chosen(sample.signal))
        return concatenate(found, dim=0)

    @torch.no_grad()
    def regress(self, images: Float[Tensor, "b 3 height width"]) -> Motions:
        """The baseline's one answer to each image."""
        return self._chosen(self.model.regressor(_at_rest(images)))

    @torch.no_grad()
    def show(self, signal: MovingImage, time: Float[Tensor, "n views"]) -> Float[Tensor, "n views 3 height width"]:
        """Moving images at any times."""
        return self.model.forward_model(signal, WarpTime(time))

    def _chosen(self, signal: PossibleMotions) -> Motions:
        """The likeliest motion, and what follows from it."""
        chosen = signal.likeliest()
        target = self.show(chosen, chosen.motion.new_ones(len(chosen.motion), 1))[:, 0]
        return Motions(chosen, target.float(), signal.probability.amax(1))


def _at_rest(images: Float[Tensor, "b 3 height width"]) -> Observations:
    return Observations(images[:, None], WarpTime(torch.zeros(len(images), 1, device=images.device)))
