"""How much of a plane repeats from patch to patch: the checkerboard that un-patching tokens leaves."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

REACH = 2  # frequencies between a peak and its neighbours: the window spreads a peak by one


def checkerboard_energy(planes: Float[Tensor, "batch planes c r r"], patch_size: int) -> Float[Tensor, " batch"]:
    """Energy at the frequencies of the patches over that of their neighbourhood; about 1 where nothing repeats.

    A pattern that is the same in every patch has all its energy at the multiples `(m R/p, n R/p)` of the patches'
    frequency.  The energy is the mean over these but (0, 0), planes and channels, of planes under Hann's window, as
    what differs between opposite borders has energy everywhere.  A peak's neighbourhood are the frequencies two further
    and two nearer, in that of both directions which has more: smooth planes have most of theirs along the axes.

    **Arguments:**
    - `planes`: of `R` cells a side, a multiple of `patch_size`; `R/p` at least 4.
    """
    side = planes.shape[-1]
    tokens = side // patch_size
    if side % patch_size or tokens < REACH + 2 or patch_size < 2:
        raise ValueError(
            f"planes of {side} cells in patches of {patch_size}: expected at least 2 cells a patch, and at least "
            f"{REACH + 2} whole patches a side"
        )
    window = torch.hann_window(side, periodic=True, dtype=torch.float64, device=planes.device)
    weight = window[:, None] * window
    flat = planes.double()
    flat = weight * (flat - (weight * flat).sum((-2, -1), keepdim=True) / weight.sum())
    power = torch.fft.fft2(flat).abs().square().mean((1, 2))  # (batch, r, r)
    peaks = torch.arange(0, side, tokens, device=planes.device)
    rows, columns = (axis.flatten()[1:] for axis in torch.meshgrid(peaks, peaks, indexing="ij"))
    down = sum(power[:, (rows + shift) % side, columns] for shift in (-REACH, REACH)) / 2
    across = sum(power[:, rows, (columns + shift) % side] for shift in (-REACH, REACH)) / 2
    return power[:, rows, columns].mean(1) / torch.maximum(down, across).mean(1).clamp(min=1e-30)


def slices(voxels: Float[Tensor, "batch c r r r"]) -> Float[Tensor, "batch planes c r r"]:
    """The slices of voxels across each axis, one after the other."""
    return torch.cat([voxels.movedim(axis, 1) for axis in (2, 3, 4)], 1)
