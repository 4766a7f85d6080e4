"""What of a scene a training step compares, and the terms that keep scenes sound."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from goembed_core.diffusion import Look, squared_error
from goembed_core.errors import UserError
from goembed_core.metrics.lpips import LPIPS
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.cameras import random_patch
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.losses import distortion_loss
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_nerf_renderer.rendering import Rendering
from goembed_pixel_aligned.denoiser import Scene
from goembed_pixel_aligned.field import CorrectedField, PixelAlignedField
from jaxtyping import Float
from torch import Tensor, nn

from goembed_inverse_graphics.config import ScoreConfig
from goembed_inverse_graphics.view import meets_box

DISPARITY = (1 / 80, 1e3)  # the least and the largest that are told apart


class Scoring(nn.Module):
    """Random pixels or a patch of each view, seen through the renderer: in the scene, and in its estimate."""

    def __init__(self, config: ScoreConfig, renderer: VolumeRenderer):
        super().__init__()
        self.config = config
        self.renderer = renderer
        self.lpips = LPIPS(config.lpips_net) if config.lpips else None

    def choose(self, observations: Observations, random: ItemRandom) -> Observations:
        """The pixels that are compared."""
        if self.config.patch_px is not None:
            return random_patch(observations, self.config.patch_px, self.config.patch_px, random)
        return random_rays(observations, self.config.rays, self.renderer.config, random)

    def look(self, signal: Scene, scored: Observations, random: ItemRandom) -> Look:
        """The sampled scene at the scored pixels, with the terms of its rays and `L_cond` of its estimate."""
        if isinstance(signal.field, CorrectedField) and self.renderer.config.chunk_points is None:
            return self._look_at_both(signal, scored, random.stream("rays"))
        seen = self.renderer.render(signal.field, scored.params, random.stream("rays"))
        losses = self._of_rays(seen, scored)
        if self.config.estimate:
            losses["estimate"] = self.config.estimate * self.estimate_error(signal.estimate, scored, random)
        return Look(2 * seen.colour - 1, losses)

    def _look_at_both(self, signal: Scene, scored: Observations, random: ItemRandom) -> Look:
        """The same, with the estimate read once: it says where both are sampled, and its part of both is one."""
        proposals = (signal.estimate,) * len(self.renderer.config.proposal_samples)
        edges = self.renderer.intervals(proposals, scored.params, random)
        points = self.renderer.points(edges, scored.params, random)
        with nullcontext() if self.config.estimate else torch.no_grad():
            first = signal.estimate.read(points)
        seen = self.renderer.composite(signal.field.correct(points, first), edges, scored.params, random)
        losses = self._of_rays(seen, scored)
        if self.config.estimate:
            samples = signal.estimate.shown(first.raw, first.seen)
            answer = self.renderer.composite(samples, edges, scored.params, random)
            losses["estimate"] = self.config.estimate * squared_error(2 * answer.colour - 1, scored.values).mean()
        return Look(2 * seen.colour - 1, losses)

    def estimate_error(
        self, estimate: PixelAlignedField, scored: Observations, random: ItemRandom
    ) -> Float[Tensor, ""]:
        """`||O − forward(S_det, φ)||²` at some of the scored pixels of target and novel views."""
        some = thinned(scored, self.config.estimate_every)
        seen = self.renderer.render(estimate, some.params, random.stream("rays of the estimate"))
        return squared_error(2 * seen.colour - 1, some.values).mean()

    def _of_rays(self, seen: Rendering, scored: Observations) -> dict[str, Tensor]:
        config, losses = self.config, {}
        if config.distortion:
            losses["distortion"] = config.distortion * distortion_loss(seen).mean()
        if config.smoothness:
            losses["smoothness"] = config.smoothness * smoothness(seen, scored.values)
        if self.lpips is not None:
            images = (2 * seen.colour - 1).flatten(0, 1), scored.values.flatten(0, 1)
            losses["lpips"] = config.lpips * self.lpips(*images).mean()
        return losses


def thinned(observations: Observations, every: int) -> Observations:
    """Every so manieth pixel, in each of the pixels' dimensions."""
    values, params = observations
    dims = values.dim() - 3
    part = (slice(None, None, every),) * dims
    return Observations(values[(..., *part)], params._replace(pixels=params.pixels[(..., *part, slice(None))]))


def random_rays(observations: Observations, count: int, config: RendererConfig, random: ItemRandom) -> Observations:
    """`count` different pixels of each whole image, `(B, V, C, count)`, with their own `φ`; first what meets the box.

    What misses the box is the background whatever the field: it costs as much and teaches nothing.
    """
    values, params = observations
    if values.dim() != 5 or params.pixels.dim() != 5 or values.shape[-2:] != params.pixels.shape[2:4]:
        raise UserError(
            f"values {tuple(values.shape)} and pixels {tuple(params.pixels.shape)}: expected whole images, "
            f"(batch, views, channels, height, width) and (batch, views, height, width, 2)"
        )
    number = values.shape[-2] * values.shape[-1]
    if count > number:
        raise UserError(f"{count} pixels of images that have {number}: ask for fewer (score.rays)")
    order = random.rand(values.shape[1], number) + meets_box(params, config).flatten(2)
    chosen = order.topk(count, 2, sorted=False).indices
    taken = values.flatten(3).gather(3, chosen[:, :, None].expand(-1, -1, values.shape[2], -1))
    pixels = params.pixels.flatten(2, 3).gather(2, chosen[..., None].expand(-1, -1, -1, 2))
    return Observations(taken, params._replace(pixels=pixels))


def smoothness(seen: Rendering, values: Float[Tensor, "batch views 3 height width"]) -> Float[Tensor, ""]:
    """Edge-aware smoothness `|∂d| exp(−|∂O|)` of the disparity `d` over its mean (Godard et al. 2017)."""
    depth = seen.depth / seen.opacity.clamp(min=1e-3)
    disparity = (1 / depth.clamp(min=1e-3)).clamp(*DISPARITY)
    disparity = disparity / disparity.mean((-2, -1), keepdim=True)
    total = disparity.new_zeros(())
    for dim in (-2, -1):
        edge = torch.diff(values, dim=dim).abs().mean(2)
        total = total + (torch.diff(disparity, dim=dim).abs() * torch.exp(-edge)).mean()
    return total
