"""Sampling many contexts in batches; a context is encoded once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig
from goembed_core.diffusion import DFM
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import select_items
from goembed_nerf_renderer.cameras import PosedPixels
from jaxtyping import Float, Num
from torch import Tensor

from goembed_fusion.generation.denoiser import PlaneDenoiser
from goembed_fusion.generation.model import Model, SceneView


class Samples(NamedTuple):
    """Planes, and what they show from where the noise was."""

    planes: Float[Tensor, "n planes c r r"]
    images: Float[Tensor, "n views 3 height width"]  # in [-1, 1]


class Solver:
    """A model, with the seed and batch size of one evaluation; every random number belongs to the item."""

    def __init__(self, model: Model, seed: int, batch_size: int):
        self.model, self.seed, self.batch_size = model, seed, batch_size
        self.device = next(model.denoiser.parameters()).device

    @torch.no_grad()
    def encode(self, network: PlaneDenoiser, context: Observations) -> Float[Tensor, "n planes c r r"]:
        """The encodings of contexts; zeros for one of no views."""
        return torch.cat([network.encode(select_items(context, part)) for part in self._parts(len(context.values))])

    @torch.no_grad()
    def samples(
        self,
        known: Float[Tensor, "n planes c r r"],
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
        for part in self._parts(len(known) * count):
            rows = torch.arange(part.start, part.stop)
            items = (rows // count).to(self.device)
            random = ItemRandom(self.seed, rows.tolist(), stream, self.device)
            context = Observations(known[items], None)
            found.append(dfm.sample(context, select_items(target, items), (views, 3, height, width), sampler, random))
        return Samples(torch.cat([s.signal for s in found]), torch.cat([s.observation.float() for s in found]))

    @torch.no_grad()
    def regress(self, known: Float[Tensor, "n planes c r r"]) -> Float[Tensor, "n planes c r r"]:
        """What the regression makes of contexts that it has encoded."""
        return torch.cat([self.model.regression.regress(known[part]) for part in self._parts(len(known))])

    @torch.no_grad()
    def views(
        self, network: PlaneDenoiser, planes: Float[Tensor, "n planes c r r"], params: PosedPixels
    ) -> Float[Tensor, "n views 3 height width"]:
        """Images in [-1, 1] of planes."""
        see = SceneView(network.forward_model)
        return torch.cat([see(planes[part], select_items(params, part)).float() for part in self._parts(len(planes))])

    def _denoise(self, context: Observations, noisy: Observations, timestep: Num[Tensor, " batch"]) -> Tensor:
        """The denoiser of contexts that are encoded already, zeros where there is none."""
        return self.model.denoiser.denoise(context.values, noisy, timestep)

    def _parts(self, number: int) -> list[slice]:
        return [slice(n, min(n + self.batch_size, number)) for n in range(0, number, self.batch_size)]
