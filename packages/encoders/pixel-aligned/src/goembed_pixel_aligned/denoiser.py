"""The denoiser whose signals are scenes: `S = denoise(O_ctxt, O_t_trgt; t, φ)` (DFM §4.1, supplement 2.1)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.traits import DenoiserTraits
from goembed_core.trees import concatenate
from goembed_nerf_renderer.cameras import PosedPixels, resize_camera, whole_image
from goembed_nerf_renderer.fields import FieldSamples, ProposedField, RadianceField
from goembed_nerf_renderer.renderer import VolumeRenderer
from jaxtyping import Float, Num
from torch import Tensor, nn

from goembed_pixel_aligned.config import SceneDenoiserConfig
from goembed_pixel_aligned.encoder import (
    PixelAlignedEncoder,
    example_views,
    require_posed,
    zoomed,
)
from goembed_pixel_aligned.features import Features
from goembed_pixel_aligned.field import CorrectedField, GuidedField, PixelAlignedField
from goembed_pixel_aligned.network import FieldNetwork


class Scene(NamedTuple):
    """What is sampled: a radiance field, with the deterministic estimate that it was made beside."""

    field: PixelAlignedField | CorrectedField | GuidedField
    estimate: PixelAlignedField  # of the context alone

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """The sampled field."""
        return self.field(points, directions)

    def proposed(self, count: int) -> RadianceField:
        """The same; where it is a corrected estimate, that one's density says `count` times where rays are sampled.

        The estimate is about a third of the field's cost.  Its proposals would have gradients, so this is for use
        without.
        """
        field = self.field.conditional if isinstance(self.field, GuidedField) else self.field
        if not isinstance(field, CorrectedField):
            return self
        return ProposedField(self, (self.estimate,) * count)


class Prepared(NamedTuple):
    """All that depends on context and target's `φ`, and not on the noisy target: the same at every step."""

    context: Features
    estimate: PixelAlignedField
    shown: Float[Tensor, "batch views c height width"]  # the estimate from the target's cameras


class SceneDenoiser(nn.Module):
    """Features of context and noisy target to one field; the target is seen beside an estimate from the context alone.

    Views are encoded one by one, so that the target's encoder knows of the context only what the estimate shows from
    where the target is.  Both fields have networks of their own; with `estimate.corrected` the second one reads the
    target and the first one's last layer, and its numbers are added to the first one's.
    """

    conformance = DenoiserTraits(uses_params=True)

    def __init__(self, config: SceneDenoiserConfig):
        super().__init__()
        self.config = config
        channels = config.context.network.out_channels
        self.context_encoder = PixelAlignedEncoder(config.context)
        self.target_encoder = PixelAlignedEncoder(config.target)
        pixelnerf = config.field.model_copy(update={"pooling": "mean"})
        self.estimate_field = FieldNetwork(pixelnerf, channels, config.estimate.features)
        self.field = FieldNetwork(config.field, channels, corrects=config.estimate.corrected)
        self.renderer = VolumeRenderer(config.renderer)

    def forward(self, context: Observations, noisy_target: Observations, timestep: Num[Tensor, " batch"]) -> Scene:
        """The scene that explains whole images in [-1, 1] of a context and of a noisy target."""
        return self.denoise(self.prepare(self.encode(context), noisy_target.params), noisy_target, timestep)

    def encode(self, context: Observations) -> Features:
        """Features of the context, at timestep 0; of further views, they are put beside the others along the views."""
        return self.context_encoder(context)

    def estimate(self, context: Features) -> PixelAlignedField:
        """The deterministic estimate, which is pixelNeRF."""
        maps = context.maps
        return self.estimate_field(context, torch.zeros(maps.shape[:2], device=maps.device))

    def prepare(self, context: Features, target_params: PosedPixels) -> Prepared:
        """Render the estimate from the target's cameras, at reduced size."""
        estimate = self.estimate(context)
        return Prepared(context, estimate, self.show(estimate, target_params))

    def show(self, estimate: PixelAlignedField, params: PosedPixels) -> Float[Tensor, "batch views c height width"]:
        """Colour, depth from the middle, opacity and features from some cameras, enlarged to the encoder's size."""
        settings, network = self.config.estimate, self.config.target.network
        require_posed(params, "target", (len(estimate.out), params.image_size.shape[1]))
        scale = 1 / settings.downscale
        small = whole_image(
            resize_camera(params.camera, scale, scale),
            network.height // settings.downscale,
            network.width // settings.downscale,
        )
        with torch.no_grad() if settings.detach else nullcontext():
            seen = self.renderer.render(estimate, small)
            depth = seen.depth - self.config.field.middle * seen.opacity
            parts = [2 * seen.colour - 1, depth[:, :, None], 2 * seen.opacity[:, :, None] - 1]
            if seen.features is not None:
                parts.append(seen.features)
            return zoomed(torch.cat(parts, 2), network.height, network.width)

    def denoise(self, prepared: Prepared, noisy_target: Observations, timestep: Num[Tensor, " batch"]) -> Scene:
        """The scene, from what was prepared for this target's cameras."""
        batch, views = noisy_target.values.shape[:2]
        if prepared.shown.shape[:2] != (batch, views) or noisy_target.values.dim() != 5:
            raise UserError(
                f"a noisy target of shape {tuple(noisy_target.values.shape)} for a context and cameras of "
                f"{prepared.shown.shape[0]} signals and {prepared.shown.shape[1]} views: one of each for the other"
            )
        beside = noisy_target._replace(values=torch.cat([noisy_target.values, prepared.shown], 2))
        target, times = self.target_encoder(beside, timestep), timestep[:, None].expand(-1, views)
        if self.config.estimate.corrected:
            return Scene(CorrectedField(prepared.estimate, self.field(target, times)), prepared.estimate)
        num_context = prepared.context.maps.shape[1]
        times = torch.cat([timestep.new_zeros(batch, num_context), times], 1)
        return Scene(self.field(concatenate([prepared.context, target], 1), times), prepared.estimate)

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Observations, Observations, Num[Tensor, " batch"]]:
        """Noise: two views of the context and one of the target, all around the middle."""
        context = example_views(batch_size, 2, self.config.context, generator)
        target = example_views(batch_size, 1, self.config.context, generator)
        timestep = torch.randperm(1000, generator=generator, device=generator.device)[:batch_size]
        return context, target, timestep


def guide(conditional: Scene, unconditional: Scene, scale: float) -> Scene:
    """Guidance of the signal itself: it is what is rendered at the end, from everywhere."""
    out = conditional.estimate.out
    weight = out.new_full((len(out),), scale)
    return conditional._replace(field=GuidedField(conditional.field, unconditional.field, weight))
