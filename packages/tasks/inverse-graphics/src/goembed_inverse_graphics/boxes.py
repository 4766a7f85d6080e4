"""What is known of `boxes`: which parts of a scene its context shows, and which colours its hidden faces may have."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_multiview_datasets.boxes import PALETTE
from jaxtyping import Bool, Float, Int
from torch import Tensor

FEWEST_PIXELS = 12  # of a hidden face, for its colour to be judged


class Hidden(NamedTuple):
    """The hidden faces that are judged: one unit for each that the target sees well enough."""

    item: Int[Tensor, " units"]  # which scene
    mask: Bool[Tensor, "units views height width"]


def hidden_faces(mask: Bool[Tensor, "batch views boxes height width"], target: int) -> Hidden:
    """Those of at least `FEWEST_PIXELS` pixels in the target."""
    item, box = (mask[:, target].sum((-1, -2)) >= FEWEST_PIXELS).nonzero(as_tuple=True)
    return Hidden(item, mask[item, :, box])


def visible_pixels(
    context: Float[Tensor, "batch 3 height width"], views: Float[Tensor, "batch views 3 height width"]
) -> Bool[Tensor, "batch views height width"]:
    """Which pixels of other views show what the context shows: faces have one colour each, all different.

    The background is among them, as the context tells where the box ends.
    """
    found = []
    for image, others in zip(context, views, strict=True):
        colours = image.flatten(1).T.unique(dim=0)
        distance = (others.movedim(1, -1)[..., None, :] - colours).abs().amax(-1).amin(-1)
        found.append(distance < 1e-5)
    return torch.stack(found)


def mean_colour(
    images: Float[Tensor, "*n 3 height width"], mask: Bool[Tensor, "*#n height width"]
) -> Float[Tensor, "*n 3"]:
    """Of the pixels of a mask, in [0, 1]; NaN where there are none.  Images are in [-1, 1]."""
    weights = mask[..., None, :, :].to(images.dtype)
    return (0.5 * (images + 1) * weights).sum((-1, -2)) / weights.sum((-1, -2))


def chosen_colour(colour: Float[Tensor, "*n 3"]) -> tuple[Int[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Which colour of the palette each is nearest to, and how far it is from that."""
    distance = (colour[..., None, :] - colour.new_tensor(PALETTE)).norm(dim=-1)
    nearest = distance.min(-1)
    return nearest.indices, nearest.values


def average_colour() -> Float[Tensor, " 3"]:
    """The mean of the palette: the best single answer."""
    return torch.tensor(PALETTE).mean(0)


def exact_frequency_error(count: int) -> float:
    """The mean of `|f − ½|` where `f` is the frequency among `count` exact draws."""
    return sum(math.comb(count, k) * abs(k / count - 0.5) for k in range(count + 1)) / 2**count


def variance_over(
    values: Float[Tensor, "units samples views 3"], known: Bool[Tensor, "units views"]
) -> tuple[Tensor, Tensor]:
    """Variance of a colour over the views of one sample, and of its mean over the samples of one context.

    Both unbiased, summed over channels, of units that are seen in two views at least.
    """
    enough = known.sum(1) >= 2
    weights = known[enough][:, None, :, None].to(values.dtype)
    count = weights.sum(2)
    picked = values[enough].nan_to_num()
    mean = (picked * weights).sum(2) / count
    within = ((picked - mean[:, :, None]).square() * weights).sum(2) / (count - 1)
    return within.sum(-1).mean(1), mean.var(1).sum(-1)
