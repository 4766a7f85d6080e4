"""The posterior check: samples against the generator images that really show the patch, found by rejection."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.protocols import Observations
from jaxtyping import Float, Int
from torch import Tensor


class Posterior(NamedTuple):
    """What a set of images says of what lies behind one patch."""

    classes: Float[Tensor, " classes"]  # histogram, sums to 1
    std_outside: Float[Tensor, ""]  # pixel standard deviation, mean over the pixels outside the patch
    mean: Float[Tensor, "channels height width"]
    std: Float[Tensor, "channels height width"]


def nearest(
    pool: Float[Tensor, "pool channels height width"], context: Observations, count: int
) -> Int[Tensor, "batch count"]:
    """For each context the `count` images of the pool nearest to its visible patch: an approximate exact posterior.

    Keeping those nearest of many prior samples is rejection sampling with a tolerance that is as small as the pool
    allows; it is loose where few images of the pool show something like the patch.
    """
    found = []
    for values in context.values[:, 0]:
        rows, columns = _extent(values[-1])
        patch = values[:-1, rows, columns]
        distance = (pool[:, :, rows, columns] - patch).square().flatten(1).sum(1)
        found.append(distance.topk(count, largest=False).indices)
    return torch.stack(found)


def summarise(
    images: Float[Tensor, "n channels height width"], classes: Int[Tensor, " n"], num_classes: int, mask: Tensor
) -> Posterior:
    """Class histogram, mean and spread of images of one context; `mask` is its visible patch, `(1, H, W)`."""
    histogram = torch.bincount(classes, minlength=num_classes).double() / len(classes)
    std = images.std(0, correction=min(1, len(images) - 1))  # one image has no spread
    hidden = (1 - mask).expand_as(std)
    return Posterior(histogram, (std * hidden).sum() / hidden.sum().clamp(min=1), images.mean(0), std)


def total_variation(a: Float[Tensor, "*batch classes"], b: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """`½ Σ |a − b|`: 0 for equal histograms, 1 for disjoint ones."""
    return 0.5 * (a - b).abs().sum(-1)


def _extent(mask: Float[Tensor, "height width"]) -> tuple[slice, slice]:
    rows, columns = mask.amax(1).nonzero(), mask.amax(0).nonzero()
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
