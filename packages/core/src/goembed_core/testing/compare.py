"""Trees of tensors compared, and what a call must leave alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goembed_core.testing.laws import Broken
from goembed_core.trees import named_leaves, tree_map


def shape_text(tree: Any) -> str:
    """The shape of a tensor, or of each leaf by name."""
    leaves = named_leaves(tree, "")
    return ", ".join(f"{name} {tuple(leaf.shape)}".strip() for name, leaf in leaves.items()) or "no tensors"


def largest_error(found: Tensor, expected: Tensor) -> float:
    """`max |found − expected| / max |expected|`; infinite where one is finite and the other not."""
    if expected.numel() == 0:
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    bad = ~expected.isfinite()
    if not torch.equal(bad, ~found.isfinite()):
        return float("inf")
    found, expected = found.masked_fill(bad, 0), expected.masked_fill(bad, 0)
    error = (found - expected).abs().max()
    return float(error / expected.abs().max()) if error > 0 else 0.0


def require_same(found: Any, expected: Any, tolerance: float, what: str, cause: str | None = None) -> None:
    """Raise `Broken` unless all leaves agree, `what` being said of those that do not."""
    ours, theirs = named_leaves(found, "output"), named_leaves(expected, "output")
    if ours.keys() != theirs.keys():
        raise Broken(f"{what}: the leaves are {', '.join(ours)} instead of {', '.join(theirs)}", cause)
    for name, leaf in ours.items():
        if leaf.shape != theirs[name].shape:
            shapes = f"{tuple(leaf.shape)} instead of {tuple(theirs[name].shape)}"
            raise Broken(f"{what}: {name} has shape {shapes}", cause)
        error = largest_error(leaf, theirs[name])
        if error > tolerance:
            raise Broken(
                f"{what}: {name} differs by {error:.2g} of its largest value, where {tolerance:.2g} is allowed", cause
            )


def differs(found: Any, other: Any) -> bool:
    """Whether any leaf has another value or another shape."""
    ours, theirs = named_leaves(found, ""), named_leaves(other, "")
    return ours.keys() != theirs.keys() or any(not torch.equal(ours[name], theirs[name]) for name in ours)


def clone(tree: Any) -> Any:
    """Copies of all leaves."""
    return tree_map(lambda leaf: leaf.detach().clone(), tree)


def cast(tree: Any, dtype: torch.dtype) -> Any:
    """The floating-point leaves in another dtype."""
    return tree_map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, tree)


def global_states() -> dict[str, Any]:
    """The states of the process-wide random number generators."""
    name, key, *rest = np.random.get_state()
    return {"torch": torch.get_rng_state(), "numpy": (name, key.tobytes(), *rest), "random": random.getstate()}


def moved_generators(before: dict[str, Any]) -> list[str]:
    """Which of the process-wide generators are no longer as they were."""
    after = global_states()
    moved = [name for name in ("numpy", "random") if before[name] != after[name]]
    return moved if torch.equal(before["torch"], after["torch"]) else ["torch", *moved]


def seed_everything(seed: int) -> None:
    """Seed the process-wide generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextmanager
def isolated() -> Iterator[None]:
    """Leave the process-wide generators and the gradient mode as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
