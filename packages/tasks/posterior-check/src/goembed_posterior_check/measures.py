"""Distances between sets of samples, and calibration."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def wasserstein_1d(a: Float[Tensor, "*batch n"], b: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """`W₁` of two sets of equally many numbers: the mean distance of the sorted ones."""
    return (a.sort(-1).values - b.sort(-1).values).abs().mean(-1)


def sliced_wasserstein(
    a: Float[Tensor, "batch n dim"], b: Float[Tensor, "batch n dim"], directions: Float[Tensor, "slices dim"]
) -> Float[Tensor, " batch"]:
    """The mean `W₁` over projections onto directions."""
    return wasserstein_1d((a @ directions.mT).mT, (b @ directions.mT).mT).mean(-1)


def ranks(truth: Float[Tensor, " batch"], samples: Float[Tensor, "batch n"]) -> Float[Tensor, " batch"]:
    """The share of samples below the truth: uniform when the samples come from the posterior (Talts et al. 2018)."""
    return (samples < truth[:, None]).double().mean(1)


def tarp(
    truth: Float[Tensor, "batch dim"], samples: Float[Tensor, "batch n dim"], reference: Float[Tensor, "batch dim"]
) -> Float[Tensor, " batch"]:
    """The share of samples nearer than the truth to a point that knows of neither (TARP, Lemos et al. 2023).

    It is uniform when the samples come from the posterior; its distribution function is the expected coverage.
    """
    distance = (truth - reference).square().sum(1)
    return ((samples - reference[:, None]).square().sum(2) < distance[:, None]).double().mean(1)


def coverage(shares: Float[Tensor, " batch"], levels: Float[Tensor, " levels"]) -> Float[Tensor, " levels"]:
    """The share of contexts whose credible region of each level holds the truth; the level itself is right."""
    return (shares[:, None] < levels).double().mean(0)


def coverage_error(shares: Float[Tensor, " batch"], levels: Float[Tensor, " levels"]) -> float:
    """The largest distance of the expected coverage from its level."""
    return (coverage(shares, levels) - levels).abs().max().item()
