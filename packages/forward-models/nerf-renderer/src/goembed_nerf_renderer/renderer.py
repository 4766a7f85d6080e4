"""Volume rendering as a forward model: the signal is a radiance field, the observation what cameras see of it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from goembed_core.errors import UserError
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from goembed_core.shapes import require_views
from goembed_core.traits import ForwardModelTraits
from goembed_core.trees import concatenate, tree_map
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from goembed_nerf_renderer.cameras import PosedPixels, camera_rays, look_at, make_intrinsics, whole_image
from goembed_nerf_renderer.cameras.geometry import Camera
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import FieldSamples, GaussianField, ProposedField, RadianceField
from goembed_nerf_renderer.marching import (
    Look,
    Places,
    Rays,
    accumulated,
    background_of_rays,
    evaluate,
    in_images,
    on_background,
    weighted,
    with_normals,
)
from goembed_nerf_renderer.occupancy import OccupancyGrid, evaluate_sparsely
from goembed_nerf_renderer.rendering import Level, Rendering
from goembed_nerf_renderer.sampling import Segment, box_segment, even_edges, places, proposed_edges, to_distance


class VolumeRenderer(nn.Module):
    """`O = Σ_i T_i (1 − exp(−σ_i δ_i)) c_i` along the ray through each pixel (NeRF, eq. 3).

    It knows nothing of who made the field.  Differentiable in field and camera, not in the places of samples.
    """

    def __init__(self, config: RendererConfig):
        super().__init__()
        self.config = config
        numbers = range(len(config.proposal_samples))
        self.conformance = ForwardModelTraits(
            not_differentiable=tuple(
                f"proposals.{n}.{leaf}" for n in numbers for leaf in ("centre", "scale", "density")
            ),
            ignored_params=("image_size",),
            twice_differentiable=True,
            compiles=config.chunk_points is None,
            vmaps=not numbers,  # searchsorted copies what vmap lays out otherwise, and warns
        )
        if config.background == "learned":
            self.background = nn.Parameter(torch.full((3,), 0.5))
        else:
            self.register_buffer("background", torch.full((3,), float(config.background == "white")), persistent=False)

    def forward(
        self, signal: RadianceField | ProposedField, params: PosedPixels
    ) -> Float[Tensor, "batch views 3 *shape"]:
        """The colour of each pixel on the background; the same each time, samples being in the middle of intervals."""
        return self.render(signal, params).colour

    def render(
        self,
        signal: RadianceField | ProposedField,
        params: PosedPixels,
        random: ItemRandom | None = None,
        *,
        background: Float[Tensor, "..."] | None = None,
        occupancy: OccupancyGrid | None = None,
        normals: bool = False,
    ) -> Rendering:
        """Colour and all else that there is to know of each pixel.

        **Arguments:**
        - `random`: samples lie anywhere in their intervals, instead of in the middle.
        - `background`: `(3,)`, `(B, 3)` or `(B, V, 3, *shape)`, in place of the settings' one.
        - `occupancy`: what is empty is not looked at; only where no gradient is recorded.
        - `normals`: compute them too, from the gradient of the density; all samples are then looked at.

        **Raises:** UserError for `φ`, backgrounds or fields of shapes that do not go together, and for more proposals
        than the settings have numbers of samples for.
        """
        field, proposals = signal if isinstance(signal, ProposedField) else (signal, ())
        batch, views, shape = self._require(params, len(proposals), random)
        if occupancy is not None and torch.is_grad_enabled():
            raise UserError(f"an occupancy grid for {batch} fields with gradient: render with torch.no_grad()")
        rays = self._rays(params, random, background)
        counts = (*self.config.proposal_samples, self.config.samples)

        def march(part: Rays) -> Rendering:
            return self._march(field, proposals, part, occupancy, normals)

        number = rays.near.shape[1]
        size = number if self.config.chunk_points is None else self.config.chunk_points // (max(batch, 1) * max(counts))
        size = max(size, 1)
        if number <= size:
            rendering = march(rays)
        else:
            parts = [tree_map(lambda leaf, i=i: leaf[:, i : i + size], rays) for i in range(0, number, size)]
            if torch.is_grad_enabled():
                rendered = [checkpoint(march, part, use_reentrant=False) for part in parts]
            else:
                rendered = [march(part) for part in parts]
            rendering = concatenate(rendered, 1)
        return in_images(rendering, views, shape)

    @torch.no_grad()
    def intervals(
        self, proposals: tuple[RadianceField, ...], params: PosedPixels, random: ItemRandom | None = None
    ) -> Float[Tensor, "batch views *shape edges"]:
        """The edges of the intervals that `render` would sample of a field with these proposals; without gradient.

        With `points` and `composite` this is rendering in three steps, for who reads several fields at one set of
        points, or one field in parts: `render(ProposedField(f, p), φ) = composite(f(points(e, φ)), e, φ)` with
        `e = intervals(p, φ)`, of fields that are the same from all directions.  As many proposals as the settings have
        numbers of samples for; one set of random numbers for all three.
        """
        _, views, shape = self._require(params, len(proposals), random)
        if len(proposals) < len(self.config.proposal_samples):
            raise UserError(
                f"{len(proposals)} proposals, but proposal_samples={self.config.proposal_samples}: without a field "
                f"each of these needs one"
            )
        edges, _ = self._propose(None, proposals, self._rays(params, random))
        return edges.unflatten(1, (views, *shape))

    def points(
        self,
        edges: Float[Tensor, "batch views *shape edges"],
        params: PosedPixels,
        random: ItemRandom | None = None,
    ) -> Float[Tensor, "batch n 3"]:
        """Where rays are sampled within some intervals, ray after ray; differentiable in the camera."""
        rays = self._rays(params, random)
        return self._within(self._along(edges, rays), rays, self._last).points.flatten(1, 2)

    def composite(
        self,
        samples: FieldSamples,
        edges: Float[Tensor, "batch views *shape edges"],
        params: PosedPixels,
        random: ItemRandom | None = None,
        *,
        background: Float[Tensor, "..."] | None = None,
    ) -> Rendering:
        """What is seen of what a field is at `points`."""
        _, views, shape = self._require(params, 0, random)
        rays = self._rays(params, random, background)
        edges = self._along(edges, rays)
        found = weighted(samples, self._within(edges, rays, self._last), None)
        return in_images(accumulated(found, edges, rays.background, ()), views, shape)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[GaussianField | ProposedField, PosedPixels]:
        """Fields of two blobs near the origin, with all proposals, seen by two small cameras around it."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(batch_size, *shape, generator=generator)

        def blobs() -> GaussianField:
            return GaussianField(uniform(-0.5, 0.5, 2, 3), uniform(0.3, 0.6, 2), uniform(0.5, 2.0, 2), None)

        field = blobs()._replace(colour=uniform(0.1, 0.9, 2, 3))
        proposals = tuple(blobs() for _ in self.config.proposal_samples)
        middle = 0.5 * (self.config.near + min(self.config.far, self.config.near + 6))
        positions = F.normalize(torch.randn(batch_size, 2, 3, generator=generator), dim=-1) * middle
        pose = look_at(positions, torch.zeros(3), torch.tensor([0.0, 0.02, 1.0]))
        focal = uniform(3.0, 5.0, 2)
        intrinsics = make_intrinsics(focal, focal, uniform(1.6, 2.4, 2), uniform(1.2, 1.8, 2))
        return ProposedField(field, proposals) if proposals else field, whole_image(Camera(pose, intrinsics), 3, 4)

    def _require(
        self, params: PosedPixels, proposals: int, random: ItemRandom | None
    ) -> tuple[int, int, tuple[int, ...]]:
        """Signals, views and the pixels' dimensions, once `φ` is known to be sound."""
        batch = len(params.camera.camera_to_world)
        leaves = {"camera.camera_to_world": (4, 4), "camera.intrinsics": (3, 3), "image_size": (2,)}
        views = require_views(params, batch, **leaves)
        pixels = tuple(params.pixels.shape)
        if len(pixels) < 3 or pixels[-1] != 2:
            raise UserError(f"φ has pixels of shape {pixels}, expected ({batch}, {views}, ..., 2)")
        if proposals > len(self.config.proposal_samples):
            raise UserError(
                f"{proposals} proposals, but proposal_samples={self.config.proposal_samples} says how to sample "
                f"{len(self.config.proposal_samples)}: give it a number for each"
            )
        if random is not None and len(random) != batch:
            raise UserError(f"random numbers of {len(random)} items for {batch} signals: give one item per signal")
        return batch, views, pixels[2:-1]

    @property
    def _last(self) -> int:
        """The level at which the field itself is sampled."""
        return len(self.config.proposal_samples)

    def _along(self, edges: Tensor, rays: Rays) -> Float[Tensor, "batch rays edges"]:
        """Given intervals, ray by ray."""
        expected = (*rays.near.shape, self.config.samples + 1)
        if edges.dim() < 4 or tuple(edges.flatten(1, -2).shape) != expected:
            raise UserError(
                f"edges of shape {tuple(edges.shape)} for {expected[0]} signals with {expected[1]} rays each and "
                f"{self.config.samples} samples a ray: expected what intervals() gives for these pixels"
            )
        return edges.flatten(1, -2)

    def _rays(self, params: PosedPixels, random: ItemRandom | None, background: Tensor | None = None) -> Rays:
        """All rays of a signal beside each other: `(B, rays, ...)`."""
        with without_autocast(params.pixels.device):
            rays = self._cast(params, background)
        if random is not None:
            counts = (*self.config.proposal_samples, self.config.samples)
            drawn = (random.stream(f"level {n}").rand(rays.near.shape[1], c) for n, c in enumerate(counts))
            rays = rays._replace(offsets=tuple(offsets.to(rays.near) for offsets in drawn))
        return rays

    def _cast(self, params: PosedPixels, background: Tensor | None) -> Rays:
        """The rays without their random numbers."""
        origins, directions = (leaf.flatten(1, -2) for leaf in camera_rays(params.camera, params.pixels))
        near, far = (torch.full_like(origins[..., 0], end) for end in (self.config.near, self.config.far))
        segment = Segment(near, far)
        if (box := self.config.box) is not None:
            low, high = origins.new_tensor(box.low), origins.new_tensor(box.high)  # in the rays' own precision
            with torch.no_grad():
                segment = box_segment(origins, directions, low, high, segment)
        background = self.background if background is None else background
        behind = background_of_rays(background.to(origins), params.pixels, origins)
        return Rays(origins, directions, *segment, behind, None)

    def _march(
        self,
        field: RadianceField,
        proposals: tuple[RadianceField, ...],
        rays: Rays,
        occupancy: OccupancyGrid | None,
        normals: bool,
    ) -> Rendering:
        """Sample the proposals one after the other, then the field where they found something."""
        edges, levels = self._propose(field, proposals, rays, occupancy)
        look = self._look(field, edges, rays, self._last, occupancy, normals)
        return accumulated(look, edges, rays.background, levels)

    def _propose(
        self,
        field: RadianceField | None,
        proposals: tuple[RadianceField, ...],
        rays: Rays,
        occupancy: OccupancyGrid | None = None,
    ) -> tuple[Float[Tensor, "batch rays edges"], tuple[Level, ...]]:
        """Intervals in which to sample the field, and what those proposals that are given made of the rays."""
        numbers = (*self.config.proposal_samples, self.config.samples)
        with without_autocast(rays.near.device):
            edges = even_edges(rays.near, numbers[0])
        levels = []
        for number in range(len(numbers) - 1):
            given = number < len(proposals)
            with nullcontext() if given else torch.no_grad():
                look = self._look(proposals[number] if given else field, edges, rays, number, occupancy, False)
            if given:
                colour = look.samples.colour
                seen = (
                    None
                    if colour is None
                    else on_background(look, colour.unflatten(1, look.weights.shape[1:]), rays.background)
                )
                levels.append(Level(edges, look.weights, seen))
            wanted, padding, sharpness = numbers[number + 1], self.config.padding, self.config.sharpness
            edges = proposed_edges(edges, look.weights, wanted, padding, sharpness)
        return edges, tuple(levels)

    def _look(
        self,
        field: RadianceField,
        edges: Float[Tensor, "batch rays edges"],
        rays: Rays,
        level: int,
        occupancy: OccupancyGrid | None,
        normals: bool,
    ) -> Look:
        """Evaluate a field once in each interval, and weight what is there."""
        at = self._within(edges, rays, level)
        directions = rays.directions if self.config.view_dependent else None
        slopes = None
        if normals:
            samples, slopes = with_normals(field, at.points, directions)
        elif occupancy is not None or (self.config.min_transmittance > 0 and not torch.is_grad_enabled()):
            limit = self.config.min_transmittance
            samples = evaluate_sparsely(field, at.points, directions, at.lengths, occupancy, limit)
        else:
            samples = evaluate(field, at.points, directions)
        return weighted(samples, at, slopes)

    def _within(self, edges: Float[Tensor, "batch rays edges"], rays: Rays, level: int) -> Places:
        """One place in each interval."""
        with without_autocast(edges.device):
            segment = Segment(rays.near, rays.far)
            ends = to_distance(edges, segment, self.config.spacing)
            inside = places(edges, None if rays.offsets is None else rays.offsets[level])
            distances = to_distance(inside, segment, self.config.spacing)
            points = rays.origins[:, :, None] + distances[..., None] * rays.directions[:, :, None]
        return Places(points, distances, ends[..., 1:] - ends[..., :-1])


def random_background(random: ItemRandom) -> Float[Tensor, "batch 3"]:
    """A colour for each item, for `render`; what it is compared with has to be put on the same one."""
    return random.rand(3)
