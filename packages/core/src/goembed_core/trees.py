"""Signals and parameters `φ` as trees: a tensor, None, or a (nested) NamedTuple or tuple of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def tree_map(function: Callable[..., Tensor], tree: Any, *others: Any) -> Any:
    """Apply `function` to the corresponding leaves of trees of one structure."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, tuple):
        leaves = [tree_map(function, *parts) for parts in zip(tree, *others, strict=True)]
        return type(tree)(*leaves) if type(tree) is not tuple else tuple(leaves)
    raise TypeError(f"expected a tensor, None or a NamedTuple of them, got {type(tree).__name__}")


def concatenate(trees: list[Any], dim: int) -> Any:
    """Concatenate trees of one structure along a dimension: 0 for signals, 1 for views."""
    return tree_map(lambda *leaves: torch.cat(leaves, dim), *trees)


def repeat_items(tree: Any, repeats: int) -> Any:
    """Every item of the batch `repeats` times, next to each other: `(B, ...)` to `(B * repeats, ...)`."""
    return tree_map(lambda leaf: leaf.repeat_interleave(repeats, 0), tree)


def select_items(tree: Any, index: Any) -> Any:
    """Items of the batch: `index` is a slice or an index tensor."""
    return tree_map(lambda leaf: leaf[index], tree)


def select_views(tree: Any, index: slice) -> Any:
    """Views of every item: `(B, V, ...)` to `(B, len(index), ...)`."""
    return tree_map(lambda leaf: leaf[:, index], tree)


def named_tensors(tree: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor of a tree (dictionaries and lists too) by its path, such as `context.params.left`."""
    if isinstance(tree, Tensor):
        return {name: tree}
    if isinstance(tree, dict):
        parts = tree.items()
    elif isinstance(tree, tuple | list):
        parts = zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True)
    else:
        return {}
    return {k: v for key, part in parts for k, v in named_tensors(part, f"{name}.{key}" if name else str(key)).items()}


def named_leaves(tree: Any, root: str) -> dict[str, Tensor]:
    """The tensors of a tree by name: `field`, `field.inner`, or `root` for a tree that is one tensor."""
    if tree is None:
        return {}
    if isinstance(tree, Tensor):
        return {root: tree}
    if not isinstance(tree, tuple):
        raise TypeError(f"expected a tensor, None or a NamedTuple of them, got {type(tree).__name__}")
    names = getattr(tree, "_fields", range(len(tree)))
    found = {}
    for name, part in zip(names, tree, strict=True):
        inner = named_leaves(part, "")
        found |= {f"{name}.{key}" if key else str(name): leaf for key, leaf in inner.items()}
    return found
