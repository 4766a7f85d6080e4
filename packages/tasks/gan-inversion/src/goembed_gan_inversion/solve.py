"""Many contexts solved in batches: by sampling, by the baseline, by refinement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig
from goembed_core.precision import autocast
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import concatenate, repeat_items, select_items
from goembed_stylegan_synth.boxes import full_box
from jaxtyping import Float
from torch import Tensor

from goembed_gan_inversion.config import RefineConfig
from goembed_gan_inversion.model import Model
from goembed_gan_inversion.problem import Scene, draw_scenes
from goembed_gan_inversion.refine import refine


class Solutions(NamedTuple):
    """Latents and their images `(N, C, R, R)`."""

    latent: Tensor
    images: Tensor


class Solver:
    """A model, with the seed and batch size of one evaluation.

    Every random number belongs to the item, so results do not depend on the batch size.
    """

    def __init__(
        self, model: Model, seed: int, batch_size: int, device: torch.device | str = "cpu", precision: str = "no"
    ):
        self.model, self.seed, self.batch_size, self.device = model, seed, batch_size, torch.device(device)
        self.precision = precision  # of the networks while they sample; data and refinement keep float32

    def scenes(self, count: int, stream: str) -> Scene:
        """Fresh scenes; another stream gives others."""
        patch, psi = self.model.patch, self.model.truncation_psi
        forward_model, batches = self.model.forward_model, self._batches(count)
        parts = [draw_scenes(forward_model, patch, psi, self._random(rows, stream)) for rows in batches]
        return concatenate(parts, dim=0)

    def sample(
        self,
        context: Observations,
        sampler: SamplerConfig,
        stream: str = "sample",
        progress: Callable[[int], None] | None = None,
    ) -> Solutions:
        """One sample of each context."""
        forward_model = self.model.forward_model
        shape = (1, forward_model.img_channels, forward_model.resolution, forward_model.resolution)

        def solve(part: Observations, rows: range) -> Solutions:
            whole = full_box(len(rows), 1, self.device)
            with autocast(self.precision, self.device):
                sample = self.model.dfm.sample(part, whole, shape, sampler, self._random(rows, stream))
            if progress is not None:
                progress(len(rows))
            return Solutions(self.model.space.latent(sample.signal), sample.observation[:, 0].float())

        return self._solve(context, solve)

    def samples(self, context: Observations, count: int, sampler: SamplerConfig, stream: str = "sample") -> Solutions:
        """`count` samples of each context, next to each other: `(B * count, ...)`."""
        return self.sample(repeat_items(context, count), sampler, stream)

    def regress(self, context: Observations) -> Solutions:
        """The baseline's one answer to each context."""

        def solve(part: Observations, rows: range) -> Solutions:
            signal, images = self.model.regressor(part, full_box(len(rows), 1, self.device))
            return Solutions(self.model.space.latent(signal), images[:, 0])

        with torch.no_grad():
            return self._solve(context, solve)

    def refine(self, solutions: Solutions, context: Observations, config: RefineConfig) -> Solutions:
        """Every solution, refined on its context's visible patch."""

        def solve(part: Observations, rows: range) -> Solutions:
            latent = refine(self.model.forward_model, solutions.latent[rows.start : rows.stop], part, config)
            return Solutions(latent, self._show(latent))

        return self._solve(context, solve)

    def prior(self, count: int, stream: str) -> Solutions:
        """Samples of the generator, whatever the context."""
        forward_model, psi = self.model.forward_model, self.model.truncation_psi
        latents = [forward_model.sample_latents(self._random(rows, stream), psi) for rows in self._batches(count)]
        return Solutions(torch.cat(latents), torch.cat([self._show(latent) for latent in latents]))

    @torch.no_grad()
    def _show(self, latent: Tensor) -> Float[Tensor, "n channels height width"]:
        return self.model.forward_model(latent, full_box(len(latent), 1, self.device))[:, 0]

    def _solve(self, context: Observations, solve: Callable[[Observations, range], Solutions]) -> Solutions:
        parts = [solve(select_items(context, slice(r.start, r.stop)), r) for r in self._batches(len(context.values))]
        return Solutions(torch.cat([p.latent for p in parts]), torch.cat([p.images for p in parts]))

    def _batches(self, count: int) -> Iterator[range]:
        for start in range(0, count, self.batch_size):
            yield range(start, min(start + self.batch_size, count))

    def _random(self, rows: range, stream: str) -> ItemRandom:
        return ItemRandom(self.seed, rows, f"evaluation {stream}", self.device)
