"""The two problems: a 2-D mixture seen along one direction, and a 16-D Gaussian seen four numbers at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.diffusion import Split
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from jaxtyping import Float
from torch import Tensor

from goembed_posterior_check.linear import LinearForward, Projection
from goembed_posterior_check.mixture import GaussianMixture

NOVEL = 4  # directions of the plane that the estimate has to explain besides the target
VIEWS = 4  # of the Gaussian: together they show all of it


class Problem(NamedTuple):
    """A prior, how it is seen, and where it lies on a device."""

    name: str
    prior: GaussianMixture
    forward_model: LinearForward

    def draw(self, random: ItemRandom) -> Split:
        """One training batch: signals are drawn, and only what is seen of them leaves this function."""
        signal = self.prior.sample(random)
        return draw_directions(self, signal, random) if self.prior.dim == 2 else draw_views(self, signal, random)


def draw_directions(problem: Problem, signal: Float[Tensor, "batch 2"], random: ItemRandom) -> Split:
    """Context and target: random directions of the plane; novel: four that are evenly spread, from a random one on.

    All of the signal is then seen, as it is on average with a single novel view, whose noise training would have to
    average out.
    """
    angle = random.rand(3) * math.pi
    novel = angle[:, 2:] + torch.arange(NOVEL, device=angle.device) * math.pi / NOVEL
    params = directions(torch.cat([angle[:, :2], novel], 1))
    values = problem.forward_model(signal, params)
    parts = (slice(0, 1), slice(1, 2), slice(2, None))
    return Split(*(Observations(values[:, part], Projection(params.matrix[:, part])) for part in parts))


def draw_views(problem: Problem, signal: Float[Tensor, "batch dim"], random: ItemRandom) -> Split:
    """Context: one to three of the four views, the others blanked; target: one of the rest; novel: all four."""
    matrix = fixed_views(problem).to(signal.device)
    order = random.rand(VIEWS).argsort(1)
    count = random.randint(1, VIEWS)[:, None]
    shuffled = matrix[order]  # (B, 4, observed, dim)
    seen = (torch.arange(VIEWS - 1, device=signal.device)[None] < count).to(signal.dtype)
    context_matrix = shuffled[:, : VIEWS - 1] * seen[:, :, None, None]
    target_matrix = torch.take_along_dim(shuffled, count[:, :, None, None], 1)
    whole = matrix.expand(len(signal), *matrix.shape)
    parts = [
        Observations(problem.forward_model(signal, Projection(m)), Projection(m))
        for m in (context_matrix, target_matrix, whole)
    ]
    return Split(*parts)


def directions(angle: Float[Tensor, "batch views"]) -> Projection:
    """Unit vectors `(cos θ, sin θ)` as projections."""
    return Projection(torch.stack([angle.cos(), angle.sin()], 2)[:, :, None])


def fixed_views(problem: Problem) -> Float[Tensor, "views observed dim"]:
    """The Gaussian's four views: random projections with orthonormal rows, drawn once; together they are a rotation."""
    dim = problem.prior.dim
    generator = torch.Generator().manual_seed(1)
    rotation, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    return rotation.float().unflatten(0, (VIEWS, dim // VIEWS))
