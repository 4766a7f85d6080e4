"""Volume rendering as a forward model: the signal is a radiance field, the observation what cameras see of it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

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
from goembed_nerf_renderer.compositing import accumulate, compositing_weights
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import FieldSamples, GaussianField, ProposedField, RadianceField
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
        with without_autocast(params.pixels.device):
            rays = self._rays(params, background)
        counts = (*self.config.proposal_samples, self.config.samples)
        if random is not None:
            drawn = (random.stream(f"level {n}").rand(rays.near.shape[1], c) for n, c in enumerate(counts))
            rays = rays._replace(offsets=tuple(offsets.to(rays.near) for offsets in drawn))

        def march(part: _Rays) -> Rendering:
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
        return _in_images(rendering, views, shape)

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

    def _rays(self, params: PosedPixels, background: Tensor | None) -> _Rays:
        """All rays of a signal beside each other: `(B, rays, ...)`."""
        origins, directions = (leaf.flatten(1, -2) for leaf in camera_rays(params.camera, params.pixels))
        near, far = (torch.full_like(origins[..., 0], end) for end in (self.config.near, self.config.far))
        segment = Segment(near, far)
        if (box := self.config.box) is not None:
            low, high = origins.new_tensor(box.low), origins.new_tensor(box.high)  # in the rays' own precision
            with torch.no_grad():
                segment = box_segment(origins, directions, low, high, segment)
        behind = self.background if background is None else background
        return _Rays(origins, directions, *segment, _behind(behind.to(origins), params.pixels, origins), None)

    def _march(
        self,
        field: RadianceField,
        proposals: tuple[RadianceField, ...],
        rays: _Rays,
        occupancy: OccupancyGrid | None,
        normals: bool,
    ) -> Rendering:
        """Sample the proposals one after the other, then the field where they found something."""
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
                    None if colour is None else _on(look, colour.unflatten(1, look.weights.shape[1:]), rays.background)
                )
                levels.append(Level(edges, look.weights, seen))
            wanted, padding, sharpness = numbers[number + 1], self.config.padding, self.config.sharpness
            edges = proposed_edges(edges, look.weights, wanted, padding, sharpness)

        look = self._look(field, edges, rays, len(numbers) - 1, occupancy, normals)
        if look.samples.colour is None:
            raise UserError("the field has no colour (0 channels): a density alone is a proposal")
        colour, features = (
            None if values is None else values.unflatten(1, look.weights.shape[1:])
            for values in (look.samples.colour, look.samples.features)
        )
        return Rendering(
            colour=_on(look, colour, rays.background),
            depth=(look.weights * look.distances).sum(-1),
            opacity=look.opacity,
            features=None if features is None else accumulate(look.weights, features),
            normals=None if look.normals is None else accumulate(look.weights, look.normals),
            edges=edges,
            distances=look.distances,
            weights=look.weights,
            proposals=tuple(levels),
        )

    def _look(
        self,
        field: RadianceField,
        edges: Float[Tensor, "batch rays edges"],
        rays: _Rays,
        level: int,
        occupancy: OccupancyGrid | None,
        normals: bool,
    ) -> _Look:
        """Evaluate a field once in each interval, and weight what is there."""
        with without_autocast(edges.device):
            segment = Segment(rays.near, rays.far)
            ends = to_distance(edges, segment, self.config.spacing)
            lengths = ends[..., 1:] - ends[..., :-1]
            inside = places(edges, None if rays.offsets is None else rays.offsets[level])
            distances = to_distance(inside, segment, self.config.spacing)
            points = rays.origins[:, :, None] + distances[..., None] * rays.directions[:, :, None]
        directions = rays.directions if self.config.view_dependent else None
        slopes = None
        if normals:
            samples, slopes = _with_normals(field, points, directions)
        elif occupancy is not None or (self.config.min_transmittance > 0 and not torch.is_grad_enabled()):
            limit = self.config.min_transmittance
            samples = evaluate_sparsely(field, points, directions, lengths, occupancy, limit)
        else:
            samples = _evaluate(field, points, directions)
        _require_samples(samples, points)
        weights, opacity = compositing_weights(samples.density.view_as(lengths), lengths)
        return _Look(samples, weights, opacity, distances, slopes)


class _Rays(NamedTuple):
    """The rays of a batch, and where the samples of each level lie in their intervals; every leaf `(B, rays, ...)`."""

    origins: Float[Tensor, "batch rays 3"]
    directions: Float[Tensor, "batch rays 3"]
    near: Float[Tensor, "batch rays"]
    far: Float[Tensor, "batch rays"]
    background: Float[Tensor, "batch rays 3"]
    offsets: tuple[Float[Tensor, "batch rays samples"], ...] | None


class _Look(NamedTuple):
    """What a field is along the rays."""

    samples: FieldSamples  # (B, rays * samples, ...)
    weights: Float[Tensor, "batch rays samples"]
    opacity: Float[Tensor, "batch rays"]
    distances: Float[Tensor, "batch rays samples"]
    normals: Float[Tensor, "batch rays samples 3"] | None


def random_background(random: ItemRandom) -> Float[Tensor, "batch 3"]:
    """A colour for each item, for `render`; what it is compared with has to be put on the same one."""
    return random.rand(3)


def _evaluate(field: RadianceField, points: Tensor, directions: Tensor | None) -> FieldSamples:
    """The field at the samples of rays."""
    along = None if directions is None else directions[:, :, None].expand_as(points).flatten(1, 2)
    return field(points.flatten(1, 2), along)


def _with_normals(
    field: RadianceField, points: Tensor, directions: Tensor | None
) -> tuple[FieldSamples, Float[Tensor, "batch rays samples 3"]]:
    """The field, and the unit vectors against the gradient of its density: zero where that is zero."""
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        points = points if points.requires_grad else points.detach().requires_grad_()
        samples = _evaluate(field, points, directions)
        (slope,) = torch.autograd.grad(samples.density.sum(), points, create_graph=recorded)
    if not recorded:
        samples = FieldSamples(*(None if values is None else values.detach() for values in samples))
    return samples, F.normalize(-slope, dim=-1)


def _require_samples(samples: FieldSamples, points: Float[Tensor, "batch rays samples 3"]) -> None:
    batch, number = len(points), points.shape[1] * points.shape[2]
    expected = {"density": (batch, number), "colour": (batch, number, 3), "features": (batch, number)}
    for name, values in samples._asdict().items():
        wanted = expected[name]
        if values is not None and tuple(values.shape)[: len(wanted)] != wanted:
            raise UserError(
                f"the field's {name} has shape {tuple(values.shape)}, expected {wanted} for φ of {batch} signals"
            )


def _on(look: _Look, colour: Tensor, background: Tensor) -> Tensor:
    """The colour of rays with what is behind them."""
    return accumulate(look.weights, colour) + (1 - look.opacity)[..., None] * background


def _behind(background: Tensor, pixels: Tensor, origins: Tensor) -> Float[Tensor, "batch rays 3"]:
    """The background of each ray."""
    batch, views, *shape = pixels.shape[:-1]
    if tuple(background.shape) in ((3,), (batch, 3)):
        return background.reshape(-1, 1, 3).expand_as(origins)
    if tuple(background.shape) == (batch, views, 3, *shape):
        return background.movedim(2, -1).reshape(origins.shape)
    raise UserError(
        f"a background of shape {tuple(background.shape)}, expected (3,), ({batch}, 3) or "
        f"({', '.join(map(str, (batch, views, 3, *shape)))})"
    )


def _in_images(rendering: Rendering, views: int, shape: tuple[int, ...]) -> Rendering:
    """Rays `(B, rays, ...)` as pixels `(B, V, *shape, ...)`, channels before the pixels' dimensions."""
    whole = tree_map(lambda leaf: leaf.reshape(len(leaf), views, *shape, *leaf.shape[2:]), rendering)
    channels = {"colour": whole.colour, "features": whole.features, "normals": whole.normals}
    first = {name: None if leaf is None else leaf.movedim(-1, 2) for name, leaf in channels.items()}
    levels = tuple(
        level._replace(colour=None if level.colour is None else level.colour.movedim(-1, 2))
        for level in whole.proposals
    )
    return whole._replace(**first, proposals=levels)
