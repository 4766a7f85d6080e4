"""Many contexts sampled in batches; what does not change from step to step is computed once a context."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig
from goembed_core.diffusion import DFM, Sample
from goembed_core.precision import autocast
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import concatenate, select_items, select_views
from goembed_nerf_renderer.cameras import PosedPixels
from goembed_nerf_renderer.fields import RadianceField
from goembed_nerf_renderer.rendering import Rendering
from goembed_pixel_aligned.denoiser import Prepared, guide
from goembed_pixel_aligned.features import Features
from goembed_pixel_aligned.field import PixelAlignedField
from jaxtyping import Float
from torch import Tensor

from goembed_inverse_graphics.model import Model
from goembed_inverse_graphics.view import KnownView, SceneView, known_rays


class Samples(NamedTuple):
    """Scenes, and what they show from where the target is."""

    scenes: tuple[RadianceField, ...]  # batches of those that were kept, one after the other
    images: Float[Tensor, "n views 3 height width"]  # in [-1, 1]


class Solver:
    """A model, with the seed, batch size and precision of one evaluation; every random number belongs to the item."""

    def __init__(
        self, model: Model, seed: int, batch_size: int, device: torch.device | str = "cpu", precision: str = "no"
    ):
        self.model, self.seed, self.batch_size = model, seed, batch_size
        self.device, self.precision = torch.device(device), precision

    @torch.no_grad()
    def samples(
        self,
        context: Observations,
        target: PosedPixels,
        count: int,
        sampler: SamplerConfig,
        stream: str = "sample",
        keep: int = 0,
    ) -> Samples:
        """`count` samples of each context, next to each other; the scenes of the first `keep` of each are kept."""
        views, (height, width) = target.image_size.shape[1], self.model.size
        scenes, images = [], []
        for rows in self._batches(len(context.values), count):
            contexts = torch.tensor(rows, device=self.device) // count
            first, inverse = contexts.unique(return_inverse=True)
            with autocast(self.precision, self.device):
                features = self.encode(select_items(context, first), sampler.guidance_scale)
                denoiser = CachedDenoiser(self.model, features, select_items(target, first), inverse)
                sample = self._sample(
                    denoiser, select_items(target, contexts), (views, 3, height, width), sampler, rows, stream
                )
            images.append(sample.observation.float())
            kept = [i for i, row in enumerate(rows) if row % count < keep]
            if kept:
                scenes.append(select_items(sample.signal, torch.tensor(kept, device=self.device)))
        return Samples(tuple(scenes), torch.cat(images))

    @torch.no_grad()
    def trajectory(
        self, context: Observations, target: PosedPixels, sampler: SamplerConfig, stream: str = "trajectory"
    ) -> Samples:
        """Sample the target's views one after the other, each from the context and all before it (DFM §4.1).

        Every view is encoded once: the features of those before are kept.  The scene is that of the last view.
        """
        height, width = self.model.size
        rows = list(range(len(context.values)))
        everyone, images = torch.arange(len(rows), device=self.device), []
        with autocast(self.precision, self.device):
            features = self.encode(context, sampler.guidance_scale)
            for view in range(target.image_size.shape[1]):
                params = select_views(target, slice(view, view + 1))
                denoiser = CachedDenoiser(self.model, features, params, everyone)
                sample = self._sample(denoiser, params, (1, 3, height, width), sampler, rows, f"{stream} {view}")
                images.append(sample.observation.float())
                seen = self.encode(Observations(sample.observation, params), sampler.guidance_scale)
                features = concatenate([features, seen], 1)
        return Samples((sample.signal,), torch.cat(images, 1))

    def encode(self, context: Observations, guidance_scale: float) -> Features:
        """Features of the context; with guidance those of a hidden one too, behind it in the batch."""
        if guidance_scale == 1.0:
            return self.model.denoiser.encode(context)
        hidden = context._replace(values=torch.zeros_like(context.values))
        return self.model.denoiser.encode(concatenate([context, hidden], 0))

    @torch.no_grad()
    def estimate(self, context: Observations) -> PixelAlignedField:
        """The deterministic estimate of each context: pixelNeRF."""
        with autocast(self.precision, self.device):
            return self.model.denoiser.estimate(self.model.denoiser.encode(context))

    @torch.no_grad()
    def look(self, scenes: RadianceField, params: PosedPixels) -> Rendering:
        """Everything that is seen of some scenes."""
        with autocast(self.precision, self.device):
            return self.model.forward_model.renderer.render(scenes, params)

    def views(self, scenes: RadianceField, params: PosedPixels) -> Float[Tensor, "n views 3 height width"]:
        """Images of some scenes in [-1, 1], in batches."""
        number = len(params.image_size)
        step = max(1, self.batch_size // params.image_size.shape[1])
        parts = [slice(i, i + step) for i in range(0, number, step)]
        with torch.no_grad(), autocast(self.precision, self.device):
            model = self.model.forward_model
            found = [model(select_items(scenes, part), select_items(params, part)).float() for part in parts]
        return torch.cat(found)

    def _sample(
        self,
        denoiser: CachedDenoiser,
        target: PosedPixels,
        shape: tuple[int, ...],
        sampler: SamplerConfig,
        rows: list[int],
        stream: str,
    ) -> Sample:
        dfm = DFM(denoiser.view, denoiser, self.model.schedule, guide=guide)
        random = ItemRandom(self.seed, rows, f"evaluation {stream}", self.device)
        nothing = Observations(torch.zeros(len(rows), 1, device=self.device), None)  # the denoiser has its features
        return dfm.sample(nothing, target, shape, sampler, random)

    def _batches(self, contexts: int, count: int) -> list[list[int]]:
        rows = list(range(contexts * count))
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]


class CachedDenoiser:
    """The denoiser of contexts whose features and estimates are there already, and a `view` of its scenes.

    **Arguments:**
    - `features`: of the contexts; with guidance, of hidden ones behind them.
    - `target`: `φ` of each context's target.
    - `contexts`: which of the contexts each sample is of.
    """

    def __init__(self, model: Model, features: Features, target: PosedPixels, contexts: Tensor):
        self.model = model
        guided = len(features.maps) // max(1, len(target.image_size))
        prepared = model.denoiser.prepare(features, concatenate([target] * guided, 0))
        groups = [contexts + group * len(target.image_size) for group in range(guided)]
        self.prepared: Prepared = select_items(prepared, torch.cat(groups))
        self.view: SceneView | KnownView = model.forward_model
        whole = model.forward_model.renderer.config.chunk_points is None
        if model.denoiser.config.estimate.corrected and guided == 1 and whole:
            known = known_rays(model.forward_model, prepared.estimate, target)
            self.view = KnownView(model.forward_model, select_items(known, contexts))

    def __call__(self, context: Observations, noisy_target: Observations, timestep: Tensor) -> RadianceField:
        """The scene; the context itself is not looked at again."""
        return self.model.denoiser.denoise(self.prepared, noisy_target, timestep)


def all_scenes(samples: Samples) -> RadianceField:
    """All that were kept, as one batch."""
    return concatenate(list(samples.scenes), 0)
