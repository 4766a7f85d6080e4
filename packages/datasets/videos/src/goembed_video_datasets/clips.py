"""What the datasets of this package give: frames of a clip, each with its time within the window that was drawn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class ClipTime(NamedTuple):
    """`φ`: when each frame was seen, on a clock that is 0 at the context and 1 at the target."""

    time: Float[Tensor, "*batch views"]


class ClipItem(NamedTuple):
    """Frames of one clip in [-1, 1]: the context (time 0), the target (time 1), then those between."""

    values: Float[Tensor, "views 3 height width"]
    params: ClipTime


def require_indices(indices: Int[Tensor, " n"], length: int) -> list[int]:
    """The indices as numbers; IndexError where one is outside of `[0, length)`."""
    items = indices.tolist()
    if items and (min(items) < 0 or max(items) >= length):
        raise IndexError(f"items {min(items)}...{max(items)} of a set of {length}")
    return items


def single_index(index: int, length: int) -> Int[Tensor, " 1"]:
    """An index as `observations` takes it, counted from the end where it is negative; IndexError outside."""
    if not -length <= index < length:
        raise IndexError(f"item {index} of a set of {length}")
    return torch.tensor([index % length])
