"""What a rendering is made of."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Level(NamedTuple):
    """What a proposal made of the rays."""

    edges: Float[Tensor, "batch views *shape edges"]
    weights: Float[Tensor, "batch views *shape samples"]
    colour: Float[Tensor, "batch views 3 *shape"] | None  # on the background; None of a proposal without colours


class Rendering(NamedTuple):
    """What is seen of fields, in float32 or better; channels come before the pixels' dimensions.

    `depth`, `features` and `normals` are `Σ w_i x_i` without what lies behind: divide by the opacity for their mean.
    """

    colour: Float[Tensor, "batch views 3 *shape"]  # on the background
    depth: Float[Tensor, "batch views *shape"]  # distance along the ray, not along z
    opacity: Float[Tensor, "batch views *shape"]
    features: Float[Tensor, "batch views f *shape"] | None
    normals: Float[Tensor, "batch views 3 *shape"] | None  # of the density, −∇σ / |∇σ|, in the world's axes
    edges: Float[Tensor, "batch views *shape edges"]  # of the intervals, in [0, 1] from near to far
    distances: Float[Tensor, "batch views *shape samples"]  # of the samples
    weights: Float[Tensor, "batch views *shape samples"]
    proposals: tuple[Level, ...]  # those that have a gradient of their own
