"""What a rendering passes through: rays, places along them, what a field is there, and what is seen of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.trees import tree_map
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from goembed_nerf_renderer.compositing import accumulate, compositing_weights
from goembed_nerf_renderer.fields import FieldSamples, RadianceField
from goembed_nerf_renderer.rendering import Level, Rendering


class Rays(NamedTuple):
    """The rays of a batch, and where the samples of each level lie in their intervals; every leaf `(B, rays, ...)`."""

    origins: Float[Tensor, "batch rays 3"]
    directions: Float[Tensor, "batch rays 3"]
    near: Float[Tensor, "batch rays"]
    far: Float[Tensor, "batch rays"]
    background: Float[Tensor, "batch rays 3"]
    offsets: tuple[Float[Tensor, "batch rays samples"], ...] | None


class Places(NamedTuple):
    """Where rays are sampled."""

    points: Float[Tensor, "batch rays samples 3"]
    distances: Float[Tensor, "batch rays samples"]
    lengths: Float[Tensor, "batch rays samples"]  # of the intervals


class Look(NamedTuple):
    """What a field is along the rays."""

    samples: FieldSamples  # (B, rays * samples, ...)
    weights: Float[Tensor, "batch rays samples"]
    opacity: Float[Tensor, "batch rays"]
    distances: Float[Tensor, "batch rays samples"]
    normals: Float[Tensor, "batch rays samples 3"] | None


def evaluate(field: RadianceField, points: Tensor, directions: Tensor | None) -> FieldSamples:
    """The field at the samples of rays."""
    along = None if directions is None else directions[:, :, None].expand_as(points).flatten(1, 2)
    return field(points.flatten(1, 2), along)


def with_normals(
    field: RadianceField, points: Tensor, directions: Tensor | None
) -> tuple[FieldSamples, Float[Tensor, "batch rays samples 3"]]:
    """The field, and the unit vectors against the gradient of its density: zero where that is zero."""
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        points = points if points.requires_grad else points.detach().requires_grad_()
        samples = evaluate(field, points, directions)
        (slope,) = torch.autograd.grad(samples.density.sum(), points, create_graph=recorded)
    if not recorded:
        samples = FieldSamples(*(None if values is None else values.detach() for values in samples))
    return samples, F.normalize(-slope, dim=-1)


def weighted(samples: FieldSamples, at: Places, normals: Tensor | None) -> Look:
    """How much of each sample is seen."""
    require_samples(samples, at.points)
    weights, opacity = compositing_weights(samples.density.view_as(at.lengths), at.lengths)
    return Look(samples, weights, opacity, at.distances, normals)


def accumulated(look: Look, edges: Tensor, background: Tensor, levels: tuple[Level, ...]) -> Rendering:
    """What is seen along rays: `(B, rays, ...)`."""
    if look.samples.colour is None:
        raise UserError("the field has no colour (0 channels): a density alone is a proposal")
    colour, features = (
        None if values is None else values.unflatten(1, look.weights.shape[1:])
        for values in (look.samples.colour, look.samples.features)
    )
    return Rendering(
        colour=on_background(look, colour, background),
        depth=(look.weights * look.distances).sum(-1),
        opacity=look.opacity,
        features=None if features is None else accumulate(look.weights, features),
        normals=None if look.normals is None else accumulate(look.weights, look.normals),
        edges=edges,
        distances=look.distances,
        weights=look.weights,
        proposals=levels,
    )


def require_samples(samples: FieldSamples, points: Float[Tensor, "batch rays samples 3"]) -> None:
    batch, number = len(points), points.shape[1] * points.shape[2]
    expected = {"density": (batch, number), "colour": (batch, number, 3), "features": (batch, number)}
    for name, values in samples._asdict().items():
        wanted = expected[name]
        if values is not None and tuple(values.shape)[: len(wanted)] != wanted:
            raise UserError(
                f"the field's {name} has shape {tuple(values.shape)}, expected {wanted} for φ of {batch} signals"
            )


def on_background(look: Look, colour: Tensor, background: Tensor) -> Tensor:
    """The colour of rays with what is behind them."""
    return accumulate(look.weights, colour) + (1 - look.opacity)[..., None] * background


def background_of_rays(background: Tensor, pixels: Tensor, origins: Tensor) -> Float[Tensor, "batch rays 3"]:
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


def in_images(rendering: Rendering, views: int, shape: tuple[int, ...]) -> Rendering:
    """Rays `(B, rays, ...)` as pixels `(B, V, *shape, ...)`, channels before the pixels' dimensions."""
    whole = tree_map(lambda leaf: leaf.reshape(len(leaf), views, *shape, *leaf.shape[2:]), rendering)
    channels = {"colour": whole.colour, "features": whole.features, "normals": whole.normals}
    first = {name: None if leaf is None else leaf.movedim(-1, 2) for name, leaf in channels.items()}
    levels = tuple(
        level._replace(colour=None if level.colour is None else level.colour.movedim(-1, 2))
        for level in whole.proposals
    )
    return whole._replace(**first, proposals=levels)
