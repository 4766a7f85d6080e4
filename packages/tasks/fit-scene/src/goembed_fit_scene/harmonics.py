"""Real spherical harmonics of low degree, for colours that depend on the direction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def harmonics(directions: Float[Tensor, "n 3"], degree: int) -> Float[Tensor, "n k"]:
    """`Y_lm` up to degree 2, `(degree + 1)²` of them, divided by `Y_00`, of unit directions."""
    x, y, z = directions.unbind(-1)
    values = [torch.ones_like(x)]
    if degree >= 1:
        root = 3**0.5
        values += [root * y, root * z, root * x]
    if degree >= 2:
        root = 15**0.5
        values += [
            root * x * y,
            root * y * z,
            0.5 * 5**0.5 * (3 * z * z - 1),
            root * x * z,
            0.5 * root * (x * x - y * y),
        ]
    return torch.stack(values, -1)
