"""Random numbers belong to the item."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from goembed_core.randomness import ItemRandom, derive_seed


def test_an_item_draws_the_same_in_any_batch():
    whole = ItemRandom(3, range(10, 18))
    part = ItemRandom(3, [12, 17])
    for draw in (lambda r: r.randn(2, 3), lambda r: r.rand(4), lambda r: r.randint(0, 1000)):
        a, b = draw(whole), draw(part)
        assert torch.equal(a[[2, 7]], b)


@pytest.mark.parametrize("other", [ItemRandom(4, [0]), ItemRandom(3, [1]), ItemRandom(3, [0], "noise")])
def test_seed_item_and_stream_all_count(other):
    assert not torch.equal(ItemRandom(3, [0]).randn(8), other.randn(8))


def test_streams_do_not_shift_each_other():
    first, second = ItemRandom(0, [0]), ItemRandom(0, [0])
    first.randn(100)
    assert torch.equal(first.stream("a").randn(4), second.stream("a").randn(4))
    assert not torch.equal(first.stream("a").randn(4), second.stream("b").randn(4))


def test_moments_over_items():
    random = ItemRandom(0, range(4000))
    normal, uniform = random.randn(1), random.rand(1)
    assert normal.mean().abs() < 0.07 and abs(normal.std().item() - 1) < 0.05
    assert abs(uniform.mean().item() - 0.5) < 0.02 and uniform.min() >= 0 and uniform.max() < 1
    assert torch.corrcoef(torch.stack([normal[:-1, 0], normal[1:, 0]]))[0, 1].abs() < 0.06


def test_the_global_generator_is_untouched_and_an_empty_batch_is_empty():
    before = torch.get_rng_state()
    ItemRandom(0, range(3)).randn(5)
    assert torch.equal(before, torch.get_rng_state())
    assert ItemRandom(0, []).randn(3, 2).shape == (0, 3, 2)
    assert ItemRandom(0, []).randint(0, 5).dtype == torch.int64


def test_seeds_are_equal_in_every_process():
    code = "from goembed_core.randomness import derive_seed; print(derive_seed(1, 2, 'x'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said) == derive_seed(1, 2, "x") < 2**63
    assert derive_seed(1, 23) != derive_seed(12, 3)
