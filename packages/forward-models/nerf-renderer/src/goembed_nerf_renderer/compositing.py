"""Emission and absorption along a ray, in log space: stable in float32, whatever dtype the field has."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.precision import at_least_float32, without_autocast
from jaxtyping import Float
from torch import Tensor


class Composite(NamedTuple):
    """What arrives of a ray's samples, in float32 or better."""

    values: Float[Tensor, "*rays c"]  # Σ w_i c_i, nothing being behind them
    weights: Float[Tensor, "*rays samples"]
    opacity: Float[Tensor, "*rays"]  # Σ w_i = 1 − exp(−Σ σ_i δ_i)


def compositing_weights(
    density: Float[Tensor, "*rays samples"], lengths: Float[Tensor, "*rays samples"]
) -> tuple[Float[Tensor, "*rays samples"], Float[Tensor, "*rays"]]:
    """`w_i = exp(−Σ_{j<i} σ_j δ_j) (1 − exp(−σ_i δ_i))`, and the opacity `1 − exp(−Σ σ_j δ_j)`.

    Optical depths are added, not transmittances multiplied: nothing underflows on the way, and no epsilon is needed.

    **Arguments:**
    - `density`: not negative.
    - `lengths`: of the intervals that the samples stand for.
    """
    with without_autocast(density.device):
        depth = at_least_float32(density) * at_least_float32(lengths)
        total = depth.cumsum(-1)
        before = torch.cat([torch.zeros_like(total[..., :1]), total[..., :-1]], -1)  # total − depth would cancel
        return -(torch.exp(-before) * torch.expm1(-depth)), -torch.expm1(-total[..., -1])


def composite(
    density: Float[Tensor, "*rays samples"],
    values: Float[Tensor, "*rays samples c"],
    lengths: Float[Tensor, "*rays samples"],
) -> Composite:
    """`C = Σ w_i c_i` with the weights of `compositing_weights`; twice differentiable in density, values, lengths."""
    weights, opacity = compositing_weights(density, lengths)
    return Composite(accumulate(weights, values), weights, opacity)


def accumulate(
    weights: Float[Tensor, "*rays samples"], values: Float[Tensor, "*rays samples c"]
) -> Float[Tensor, "*rays c"]:
    """`Σ w_i c_i`, in the weights' precision."""
    with without_autocast(weights.device):
        return (weights[..., None, :] @ at_least_float32(values).to(weights.dtype))[..., 0, :]
