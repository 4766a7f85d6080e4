"""Trees of tensors."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from goembed_core.trees import concatenate, repeat_items, select_items, select_views, tree_map
from torch import Tensor


class Inner(NamedTuple):
    b: Tensor
    c: None = None


class Outer(NamedTuple):
    a: Tensor
    inner: Inner


def tree(start: float = 0.0) -> Outer:
    return Outer(torch.arange(6.0).view(2, 3) + start, Inner(torch.arange(12.0).view(2, 3, 2) + start))


def test_map_keeps_the_structure():
    doubled = tree_map(lambda x: 2 * x, tree())
    assert isinstance(doubled, Outer) and isinstance(doubled.inner, Inner) and doubled.inner.c is None
    assert torch.equal(doubled.inner.b, 2 * tree().inner.b)
    summed = tree_map(torch.add, tree(), tree(1.0))
    assert torch.equal(summed.a, 2 * tree().a + 1)
    assert tree_map(lambda x: x + 1, (torch.zeros(1), None)) == (torch.ones(1), None)


def test_batches_and_views():
    assert concatenate([tree(), tree()], 0).inner.b.shape == (4, 3, 2)
    assert concatenate([tree(), tree()], 1).inner.b.shape == (2, 6, 2)
    assert repeat_items(tree(), 2).a[:, 0].tolist() == [0, 0, 3, 3]
    assert select_items(tree(), torch.tensor([1])).a.tolist() == [[3, 4, 5]]
    assert select_views(tree(), slice(1, 3)).inner.b.shape == (2, 2, 2)


def test_what_is_no_tree_is_named():
    with pytest.raises(TypeError, match="expected a tensor, None or a NamedTuple of them, got dict"):
        tree_map(lambda x: x, {"a": 1})
