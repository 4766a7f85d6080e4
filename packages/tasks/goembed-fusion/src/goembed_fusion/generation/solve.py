"""Sampling many contexts in batches; a context is encoded once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig
from goembed_core.diffusion import DFM
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import concatenate, select_items
from goembed_nerf_renderer.cameras import PosedPixels
from jaxtyping import Float, Num
from torch import Tensor

from goembed_fusion.generation.grids import GridDenoiser
from goembed_fusion.generation.model import Model, SceneView


class Samples(NamedTuple):
    """Planes or voxels, and what they show from where the noise was."""

    signals: Float[Tensor, "n ..."]
    images: Float[Tensor, "n views 3 height width"]  # in [-1, 1]


class Solver:
    """A model, with the seed and batch size of one evaluation; every random number belongs to the item."""

    def __init__(self, model: Model, seed: int, batch_size: int):
        self.model, self.seed, self.batch_size = model, seed, batch_size
        self.device = next(model.denoiser.parameters()).device

    @torch.no_grad()
    def encode(self, network: GridDenoiser, context: Observations) -> Observations:
        """What a network knows of contexts, as far as it is found out once."""
        parts = [network.known(select_items(context, part)) for part in self._parts(len(context.values))]
        return concatenate(parts, 0)

    @torch.no_grad()
    def samples(
        self,
        known: Observations,
        target: PosedPixels,
        count: int,
        sampler: SamplerConfig,
        stream: str,
    ) -> Samples:
        """`count` samples of each encoded context, next to each other.

        **Arguments:**
        - `target`: `φ` of the views whose noise is removed together, whole images.
        """
        views, (height, width) = target.image_size.shape[1], target.pixels.shape[2:4]
        dfm = DFM(SceneView(self.model.denoiser.forward_model), self._denoise, self.model.schedule)
        found = []
        for part in self._parts(len(known.values) * count):
            rows = torch.arange(part.start, part.stop)
            items = (rows // count).to(self.device)
            random = ItemRandom(self.seed, rows.tolist(), stream, self.device)
            context = select_items(known, items)
            found.append(dfm.sample(context, select_items(target, items), (views, 3, height, width), sampler, random))
        return Samples(torch.cat([s.signal for s in found]), torch.cat([s.observation.float() for s in found]))

    @torch.no_grad()
    def regress(self, known: Observations) -> Float[Tensor, "n ..."]:
        """What the regression makes of contexts that it knows."""
        parts = self._parts(len(known.values))
        return torch.cat([self.model.regression.regress(select_items(known, part)) for part in parts])

    @torch.no_grad()
    def views(
        self, network: GridDenoiser, signals: Float[Tensor, "n ..."], params: PosedPixels
    ) -> Float[Tensor, "n views 3 height width"]:
        """Images in [-1, 1] of signals."""
        see = SceneView(network.forward_model)
        return torch.cat([see(signals[part], select_items(params, part)).float() for part in self._parts(len(signals))])

    def _denoise(self, context: Observations, noisy: Observations, timestep: Num[Tensor, " batch"]) -> Tensor:
        """The denoiser of contexts that are known already, zeros where there is none."""
        return self.model.denoiser.denoise(context, noisy, timestep)

    def _parts(self, number: int) -> list[slice]:
        return [slice(n, min(n + self.batch_size, number)) for n in range(0, number, self.batch_size)]
