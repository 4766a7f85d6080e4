"""Radiance fields: what the renderer asks of a signal, and a few whose images are known."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from goembed_core.errors import UserError
from jaxtyping import Float
from torch import Tensor


class FieldSamples(NamedTuple):
    """What a field is at points of space."""

    density: Float[Tensor, "batch n"]  # optical depth per unit of length, not negative
    colour: Float[Tensor, "batch n 3"] | None  # None of a proposal that has a density alone
    features: Float[Tensor, "batch n f"] | None = None


@runtime_checkable
class RadianceField(Protocol):
    """A batch of fields: density, colour and features of each at its own points, differentiable in what it is made of.

    One that is a NamedTuple of tensors with a method `__call__` is a tree of leaves as well, which samplers and the
    conformance suite can take apart.
    """

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """Evaluate at points of the world, seen along unit directions; None where only the density is asked for."""
        ...


class ProposedField(NamedTuple):
    """A field with the proposals that tell where to sample it, coarsest first."""

    field: RadianceField
    proposals: tuple[RadianceField, ...]


class GaussianField(NamedTuple):
    """`σ(x) = Σ_k density_k exp(−|x − centre_k|² / 2 scale_k²)`; the colour is their mean, weighted by density.

    `density` and `scale` are positive.  Without colour it is a proposal.
    """

    centre: Float[Tensor, "batch k 3"]
    scale: Float[Tensor, "batch k"]
    density: Float[Tensor, "batch k"]
    colour: Float[Tensor, "batch k 3"] | None

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """Evaluate; differentiable in everything."""
        require_points(points, self.centre)
        square = (points[:, :, None] - self.centre[:, None]).square().sum(-1)
        exponents = -0.5 * square / self.scale.square()[:, None] + self.density.log()[:, None]
        colour = None if self.colour is None else exponents.softmax(-1) @ self.colour
        return FieldSamples(exponents.exp().sum(-1), colour)


class SphereField(NamedTuple):
    """Balls of one colour, whose density falls from `density` to 0 within `edge` of their surface, linearly."""

    centre: Float[Tensor, "batch k 3"]
    radius: Float[Tensor, "batch k"]
    density: Float[Tensor, "batch k"]
    colour: Float[Tensor, "batch k 3"]
    edge: Float[Tensor, "batch k"]  # positive; the middle of the fall is at the radius

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """Evaluate; where balls overlap their densities add up.  Differentiable in everything."""
        require_points(points, self.centre)
        distance = (points[:, :, None] - self.centre[:, None]).norm(dim=-1) - self.radius[:, None]
        return _solid(distance, self.density, self.colour, self.edge)


class BoxField(NamedTuple):
    """Boxes along the axes, whose density falls from `density` to 0 within `edge` of their faces, linearly."""

    low: Float[Tensor, "batch k 3"]
    high: Float[Tensor, "batch k 3"]
    density: Float[Tensor, "batch k"]
    colour: Float[Tensor, "batch k 3"]
    edge: Float[Tensor, "batch k"]  # positive; the middle of the fall is at the face

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """Evaluate; where boxes overlap their densities add up.  Differentiable in everything."""
        require_points(points, self.low)
        x = points[:, :, None]
        distance = torch.maximum(self.low[:, None] - x, x - self.high[:, None]).amax(-1)
        return _solid(distance, self.density, self.colour, self.edge)


class SumField(NamedTuple):
    """Several fields in one space: densities add up, colours are weighted by them."""

    parts: tuple[RadianceField, ...]

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None = None
    ) -> FieldSamples:
        """Evaluate; features are not kept."""
        samples = [part(points, directions) for part in self.parts]
        density = torch.stack([sample.density for sample in samples], -1)
        colour = torch.stack([sample.colour for sample in samples], -2)
        return _mixed(density, (density[..., None] * colour).sum(-2))


def require_points(points: Float[Tensor, "batch n 3"], leaf: Float[Tensor, "batch k 3"]) -> None:
    """Raise UserError unless the points are `(B, N, 3)` of the `B` fields that a leaf `(B, K, 3)` describes."""
    if leaf.dim() != 3 or points.dim() != 3 or len(points) != len(leaf):
        raise UserError(
            f"points of shape {tuple(points.shape)} for fields with a leaf of shape {tuple(leaf.shape)}: "
            f"expected (batch, n, 3) and (batch, k, 3), with one batch"
        )


def _solid(
    distance: Float[Tensor, "batch n k"], density: Tensor, colour: Tensor, edge: Float[Tensor, "batch k"]
) -> FieldSamples:
    """From the distance to the surface, which is negative inside."""
    each = density[:, None] * (0.5 - distance / edge[:, None]).clamp(0, 1)
    return _mixed(each, each @ colour)


def _mixed(density: Float[Tensor, "batch n k"], weighted: Float[Tensor, "batch n 3"]) -> FieldSamples:
    total = density.sum(-1)
    return FieldSamples(total, weighted / torch.where(total > 0, total, 1.0)[..., None])
