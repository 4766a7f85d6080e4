"""How far a figure can be trusted: intervals by resampling the samples it was measured on (Efron 1979)."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor

from goembed_core.errors import UserError

CHUNK = 4_000_000  # values looked at together


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


def mean(values: Float[Tensor, "*resamples n"]) -> Float[Tensor, "*resamples"]:
    """The default statistic."""
    return values.mean(-1)


def median(values: Float[Tensor, "*resamples n"]) -> Float[Tensor, "*resamples"]:
    """The middle value; for errors with a few that are very large."""
    return values.quantile(0.5, dim=-1)


@torch.no_grad()
def bootstrap_interval(
    values: Num[Tensor, " n"],
    statistic: Callable[[Tensor], Tensor] = mean,
    n: int = 1000,
    *,
    generator: torch.Generator,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of a statistic of independent values, from `n` resamples.

    `statistic` reduces the last dimension.  Values that belong together (several views of one scene) are not
    independent: average them first.
    """
    _check(n, level)
    if values.ndim != 1 or len(values) < 2:
        raise UserError(f"an interval needs a vector of at least 2 values; got shape {tuple(values.shape)}")
    values = values.double().cpu()
    picks = torch.stack([_resample(len(values), generator) for _ in range(n)])
    resampled = torch.cat([statistic(values[rows]) for rows in picks.split(max(1, CHUNK // len(values)))])
    low, high = resampled.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return Interval(low, high)


@torch.no_grad()
def bootstrap_distance_interval(
    distance: Callable[[Tensor, Tensor], float],
    features_a: Float[Tensor, "n features"],
    features_b: Float[Tensor, "m features"],
    n: int = 30,
    *,
    generator: torch.Generator,
    level: float = 0.95,
) -> Interval:
    """`distance ± z · (its standard deviation over n resamples of both sets)`, for a distance between two sets.

    Not a percentile interval: a resampled set repeats some samples, and fewer different samples lie further apart, so
    that the resampled distances are all too large while their spread is right.  The interval is for the distance at
    these numbers of samples, not for the distance of the distributions, from which it may be off by the estimator's
    bias.
    """
    _check(n, level)
    value = distance(features_a, features_b)
    resampled = [
        distance(
            features_a[_resample(len(features_a), generator).to(features_a.device)],
            features_b[_resample(len(features_b), generator).to(features_b.device)],
        )
        for _ in range(n)
    ]
    half = statistics.NormalDist().inv_cdf((1 + level) / 2) * statistics.stdev(resampled)
    return Interval(value - half, value + half)


def _resample(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(count, (count,), generator=generator, device=generator.device).cpu()


def _check(n: int, level: float) -> None:
    if n < 2 or not 0 < level < 1:
        raise UserError(f"an interval needs n >= 2 resamples and a level between 0 and 1; got n={n}, level={level}")
