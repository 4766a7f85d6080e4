"""The forward model: how scenes are seen, and what is known of a view before anything is sampled."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_nerf_renderer.cameras import PosedPixels, camera_rays
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import RadianceField
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_nerf_renderer.sampling import Segment, box_segment
from goembed_pixel_aligned.denoiser import Scene
from goembed_pixel_aligned.field import PixelAlignedField, Reading
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class SceneView(nn.Module):
    """`O = 2 render(S, φ) − 1`: images in [-1, 1], as diffusion has them."""

    def __init__(self, renderer: VolumeRenderer):
        super().__init__()
        self.renderer = renderer

    def forward(self, signal: RadianceField, params: PosedPixels) -> Float[Tensor, "batch views 3 *shape"]:
        """What is seen of scenes.

        Where no gradient is wanted, rays that miss the renderer's box cost nothing, and the estimate tells where those
        of a corrected scene are sampled.
        """
        if torch.is_grad_enabled():
            return 2 * self.renderer(signal, params) - 1
        if isinstance(signal, Scene):
            signal = signal.proposed(len(self.renderer.config.proposal_samples))
        rays = rays_in_box(params, self.renderer.config)
        return self.whole(2 * self.renderer(signal, rays.params) - 1, rays, params)

    def whole(
        self, seen: Float[Tensor, "batch views 3 rays"], rays: BoxRays, params: PosedPixels
    ) -> Float[Tensor, "batch views 3 *shape"]:
        """All pixels: what is seen along some rays, and the background in the place of the others."""
        if rays.chosen is None:
            return seen
        count = params.pixels[0, 0, ..., 0].numel()
        background = 2 * self.renderer.background.to(seen)[:, None].expand(*seen.shape[:2], 3, count) - 1
        filled = background.scatter(3, rays.chosen[:, :, None].expand_as(seen), seen)
        return filled.unflatten(3, params.pixels.shape[2:-1])


class BoxRays(NamedTuple):
    """The pixels of some images whose ray meets the renderer's box, or a few more: as many of each image."""

    params: PosedPixels  # of these pixels alone, one after the other
    chosen: Int[Tensor, "batch views rays"] | None  # which they are; None for all, as they were


def rays_in_box(params: PosedPixels, config: RendererConfig) -> BoxRays:
    """Those that have to be looked at."""
    if config.box is None or params.pixels.numel() == 0:
        return BoxRays(params, None)
    meets = meets_box(params, config).flatten(2)
    count = max(1, int(meets.sum(-1).max()))
    chosen = meets.to(torch.uint8).topk(count, -1, sorted=False).indices
    pixels = params.pixels.flatten(2, -2).gather(2, chosen[..., None].expand(-1, -1, -1, 2))
    return BoxRays(params._replace(pixels=pixels), chosen)


def meets_box(params: PosedPixels, config: RendererConfig) -> Bool[Tensor, "batch views *shape"]:
    """Which pixels have a ray that passes through the renderer's box; all of them where there is none."""
    rays = camera_rays(params.camera, params.pixels)
    near, far = (torch.full_like(rays.origins[..., 0], end) for end in (config.near, config.far))
    if config.box is None:
        return torch.ones_like(near, dtype=torch.bool)
    low, high = rays.origins.new_tensor(config.box.low), rays.origins.new_tensor(config.box.high)
    segment = box_segment(rays.origins, rays.directions, low, high, Segment(near, far))
    return segment.far > segment.near


class KnownRays(NamedTuple):
    """The target's rays, for scenes that are corrections of known estimates.

    Where they are sampled, and what the estimate is there, does not depend on the noisy target.
    """

    rays: BoxRays
    edges: Float[Tensor, "batch views rays edges"]  # of the intervals that are sampled
    points: Float[Tensor, "batch n 3"]
    estimate: Reading  # at these points


def known_rays(view: SceneView, estimate: PixelAlignedField, params: PosedPixels) -> KnownRays:
    """Read estimates along the rays of the target's cameras."""
    renderer = view.renderer
    rays = rays_in_box(params, renderer.config)
    edges = renderer.intervals((estimate,) * len(renderer.config.proposal_samples), rays.params)
    points = renderer.points(edges, rays.params)
    return KnownRays(rays, edges, points, estimate.read(points))


class KnownView:
    """A forward model for the target's `φ` alone, by `known_rays`: only corrections are read.

    Equal to `SceneView` under that `φ`.
    """

    def __init__(self, view: SceneView, known: KnownRays):
        self.view, self.known = view, known

    def __call__(self, signal: Scene, params: PosedPixels) -> Float[Tensor, "batch views 3 *shape"]:
        """What is seen of the scenes; `params` is what the rays were made of."""
        rays, edges, points, estimate = self.known
        seen = self.view.renderer.composite(signal.field.correct(points, estimate), edges, rays.params)
        return self.view.whole(2 * seen.colour - 1, rays, params)
