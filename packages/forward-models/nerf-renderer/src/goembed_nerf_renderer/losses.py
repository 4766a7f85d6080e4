"""Losses of what a ray was made of: that proposals cover the weights, and that the weights are compact."""

from __future__ import annotations

import torch
from goembed_core.errors import UserError
from goembed_core.precision import without_autocast
from jaxtyping import Float
from torch import Tensor

from goembed_nerf_renderer.rendering import Rendering


def interlevel_loss(rendering: Rendering) -> Float[Tensor, " batch"]:
    """`Σ_i max(0, w_i − bound_i)² / w_i` of each proposal (mip-NeRF 360, eq. 13), summed, a mean over the rays.

    It trains the proposals alone: the field's own weights are held fixed.

    **Raises:** UserError without proposals that have a gradient of their own.
    """
    _require_proposals(rendering)
    target, loss = rendering.weights.detach(), 0.0
    with without_autocast(target.device):
        for level in rendering.proposals:
            excess = (target - outer_bound(rendering.edges, level.edges, level.weights)).clamp(min=0)
            terms = excess.square() / target.clamp(min=torch.finfo(target.dtype).eps)
            loss = loss + terms.sum(-1).flatten(1).mean(1)
    return loss


def coarse_colour_loss(rendering: Rendering, values: Float[Tensor, "batch views 3 *shape"]) -> Float[Tensor, " batch"]:
    """Squared error of the colours of the proposals (NeRF, eq. 6), summed over them, a mean over the rays.

    **Raises:** UserError without proposals that have colours.
    """
    _require_proposals(rendering)
    colours = [level.colour for level in rendering.proposals if level.colour is not None]
    if not colours:
        raise UserError(
            f"none of {len(rendering.proposals)} proposals has a colour: give fields that have one, or use "
            f"interlevel_loss"
        )
    return sum((colour - values.to(colour)).square().flatten(1).mean(1) for colour in colours)


def distortion_loss(rendering: Rendering) -> Float[Tensor, " batch"]:
    """`Σ_ij w_i w_j |m_i − m_j| + ⅓ Σ_i w_i² d_i` (mip-NeRF 360, eq. 15), a mean over the rays, by prefix sums.

    `m` and `d` are middles and lengths of the intervals, in [0, 1] from near to far.
    """
    edges, weights = rendering.edges, rendering.weights
    middle, length = 0.5 * (edges[..., 1:] + edges[..., :-1]), edges[..., 1:] - edges[..., :-1]
    before = weights.cumsum(-1) - weights
    moment_before = (weights * middle).cumsum(-1) - weights * middle
    between = 2 * (weights * (middle * before - moment_before)).sum(-1)
    within = (weights.square() * length).sum(-1) / 3
    return (between + within).flatten(1).mean(1)


def outer_bound(
    edges: Float[Tensor, "*rays edges"],
    proposal_edges: Float[Tensor, "*rays proposal_edges"],
    proposal_weights: Float[Tensor, "*rays samples"],
) -> Float[Tensor, "*rays intervals"]:
    """The sum of a proposal's weights over all of its intervals that overlap each interval (mip-NeRF 360, eq. 12)."""
    total = torch.cat([torch.zeros_like(proposal_weights[..., :1]), proposal_weights.cumsum(-1)], -1)
    last = proposal_edges.shape[-1] - 1
    inner = proposal_edges.contiguous()
    first = (torch.searchsorted(inner, edges[..., :-1].contiguous(), right=True) - 1).clamp(0, last)
    end = torch.searchsorted(inner, edges[..., 1:].contiguous()).clamp(0, last)
    return total.gather(-1, end) - total.gather(-1, first)


def _require_proposals(rendering: Rendering) -> None:
    if not rendering.proposals:
        raise UserError(
            "a rendering with 0 proposals: the loss needs a ProposedField(field, proposals); samples that the field "
            "itself proposes have no gradient"
        )
