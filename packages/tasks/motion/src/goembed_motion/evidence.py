"""What a noisy target says of every displacement, pixel by pixel: log-likelihood ratios."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def displacements(radius_px: int, stride_px: int) -> list[tuple[int, int]]:
    """Displacements `(dy, dx)` of a square grid within the radius, but for (0, 0)."""
    steps = range(-(radius_px // stride_px) * stride_px, radius_px + 1, stride_px)
    return [(dy, dx) for dy in steps for dx in steps if (dy, dx) != (0, 0)]


def displacement_evidence(
    context: Float[Tensor, "batch channels height width"],
    noisy: Float[Tensor, "batch channels height width"],
    scale: Float[Tensor, " batch"],
    radius_px: int,
    stride_px: int,
) -> Float[Tensor, "batch displacements height width"]:
    """How much likelier the noisy target is if pixel `u` of the context came to `u + d` than if nothing moved.

    With `x = s c + σ ε`, `s = √ᾱ_t`, and Δ = c(u) − c(u + d), the log-likelihood ratio of the target's pixel `u + d` is
    `s/σ² · (Δ·(x(u+d) − s c(u+d)) − s |Δ|²/2)`; given is what is in brackets, which stays bounded for every `t`. Summed
    over the pixels of an object it is the matched filter of its displacement. Nothing is said of pixels out of frame.
    """
    height, width = context.shape[2:]
    scale = scale.view(-1, 1, 1, 1)
    residual = F.pad(noisy - scale * context, (radius_px,) * 4)
    around = F.pad(context, (radius_px,) * 4, mode="replicate")
    inside = F.pad(context.new_ones(1, 1, height, width), (radius_px,) * 4)
    shown = context.new_empty(len(context), len(displacements(radius_px, stride_px)), height, width)
    for number, (dy, dx) in enumerate(displacements(radius_px, stride_px)):
        rows, columns = (slice(radius_px + d, radius_px + d + n) for d, n in ((dy, height), (dx, width)))
        change = context - around[..., rows, columns]
        error = change * residual[..., rows, columns] - scale * change.square() / 2
        shown[:, number] = (error * inside[..., rows, columns]).sum(1)
    return shown
