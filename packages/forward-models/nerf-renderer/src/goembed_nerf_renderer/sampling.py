"""Where a ray is sampled: intervals that cover it without gaps, by distance or disparity, or by a proposal's weights.

A ray is `s` in [0, 1] from near to far.  Its intervals are given by their edges; the first is 0 and the last 1.
Places of samples have no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.precision import without_autocast
from jaxtyping import Float
from torch import Tensor


class Segment(NamedTuple):
    """The part of each ray that is sampled, by the distance from the camera."""

    near: Float[Tensor, "*rays"]
    far: Float[Tensor, "*rays"]


def box_segment(
    origins: Float[Tensor, "*rays 3"],
    directions: Float[Tensor, "*rays 3"],
    low: Float[Tensor, " 3"],
    high: Float[Tensor, " 3"],
    segment: Segment,
) -> Segment:
    """The part of a segment that is within a box; of no length, at the segment's near end, where there is none."""
    tiny = torch.finfo(directions.dtype).tiny ** 0.5
    safe = torch.where(directions.abs() < tiny, tiny, directions)  # along a face: it is hit very far away
    first, second = (low - origins) / safe, (high - origins) / safe
    near = torch.minimum(first, second).amax(-1).maximum(segment.near)
    far = torch.maximum(first, second).amin(-1).minimum(segment.far)
    missed = far <= near
    return Segment(torch.where(missed, segment.near, near), torch.where(missed, segment.near, far))


def to_distance(s: Float[Tensor, "*rays n"], segment: Segment, spacing: str) -> Float[Tensor, "*rays n"]:
    """The distance of places in [0, 1]: even in distance (`linear`) or in its reciprocal (`disparity`)."""
    near, far = segment.near[..., None], segment.far[..., None]
    if spacing == "linear":
        return near + s * (far - near)
    return near * far / (far + s * (near - far))


def even_edges(rays: Float[Tensor, "*rays"], count: int) -> Float[Tensor, "*rays edges"]:
    """Edges of `count` intervals of one length, for each ray."""
    edges = torch.arange(count + 1, device=rays.device, dtype=rays.dtype) / count
    return edges.expand(*rays.shape, count + 1)


@torch.no_grad()
def proposed_edges(
    edges: Float[Tensor, "*rays edges"],
    weights: Float[Tensor, "*rays samples"],
    count: int,
    padding: float,
    sharpness: float = 1.0,
) -> Float[Tensor, "*rays new_edges"]:
    """Edges of `count` intervals that hold equal shares of a proposal's weights (inverse of the piecewise linear CDF).

    As many samples per length `ρ` go where the weight per length is `w` as `w` to the power of `sharpness`.  Where the
    error of an interval goes with its length, `∫ w / ρ` is least for 1/2; where with its square, `∫ w / ρ²` for 1/3.
    NeRF has 1, which leaves too few for what shines through from behind.

    The weights are first spread to the neighbours, `(max(w_{i−1}, w_i) + max(w_i, w_{i+1})) / 2`, as the edge of a
    thing may lie just beside a sample that met it (mip-NeRF, §3.1), and made a distribution.  Of that, `padding` is
    even.
    """
    with without_autocast(weights.device):
        weights = weights.detach()
        outer = torch.cat([weights[..., :1], weights, weights[..., -1:]], -1)
        larger = torch.maximum(outer[..., :-1], outer[..., 1:])
        weights = 0.5 * (larger[..., :-1] + larger[..., 1:])
        lengths = edges[..., 1:] - edges[..., :-1]
        weights = weights**sharpness * lengths ** (1 - sharpness)
        total = weights.sum(-1, keepdim=True)
        share = torch.where(total > 1e-6, weights / total.clamp(min=1e-6), lengths)  # nothing was met: evenly
        share = (share + padding * lengths) / (1 + padding)
        cdf = share[..., :-1].cumsum(-1)
        cdf = torch.cat([torch.zeros_like(total), cdf, torch.ones_like(total)], -1)
        wanted = even_edges(total[..., 0], count)[..., 1:-1].contiguous()
        above = torch.searchsorted(cdf, wanted, right=True).clamp(1, cdf.shape[-1] - 1)
        cdf_low, cdf_high = cdf.gather(-1, above - 1), cdf.gather(-1, above)
        low, high = edges.gather(-1, above - 1), edges.gather(-1, above)
        part = (wanted - cdf_low) / (cdf_high - cdf_low).clamp(min=torch.finfo(cdf.dtype).tiny)
        inner = low + part.clamp(0, 1) * (high - low)
        return torch.cat([edges[..., :1], inner, edges[..., -1:]], -1)


def places(
    edges: Float[Tensor, "*rays edges"], offsets: Float[Tensor, "*rays samples"] | None
) -> Float[Tensor, "*rays samples"]:
    """A place within each interval: its middle, or where `offsets` in [0, 1) say (stratified sampling)."""
    low, high = edges[..., :-1], edges[..., 1:]
    return 0.5 * (low + high) if offsets is None else low + offsets.to(edges) * (high - low)
