"""Random numbers belong to the item."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from goembed_core.randomness import ItemRandom, derive_seed, philox


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


def test_a_stream_within_a_stream_is_its_own():
    """Else the data of a step and its noise are one where a task calls both by one name."""
    top = ItemRandom(0, range(5))
    within, named, other = (
        r.randn(4) for r in (top.stream("a").stream("b"), top.stream("b"), top.stream("c").stream("b"))
    )
    assert within.ne(named).all() and within.ne(other).all()
    assert torch.equal(within, ItemRandom(0, range(5), "a/b").randn(4))


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


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_its_authors_known_answers(counter, key, expected):
    words = philox([torch.tensor([word]) for word in counter], key)
    assert tuple(word.item() for word in words) == expected


def test_normal_numbers_are_normal():
    numbers = ItemRandom(5, range(50)).randn(4001).flatten().double()
    assert numbers.isfinite().all() and 4 < numbers.abs().max() < 7
    levels = torch.linspace(-3, 3, 25, dtype=torch.float64)
    share = (numbers[:, None] < levels).double().mean(0)
    exact = torch.special.ndtr(levels)
    assert (share - exact).abs().max() < 4 * (0.25 / len(numbers)) ** 0.5


def test_draws_follow_each_other_without_repeats_and_do_not_depend_on_the_shape():
    random = ItemRandom(5, range(3))
    first, second = random.rand(7), random.rand(7)
    assert torch.cat([first, second]).unique().numel() == 42
    assert torch.equal(ItemRandom(5, range(3)).rand(7, 1).flatten(1), first)
    assert torch.equal(ItemRandom(5, range(3)).rand(3), first[:, :3])
    assert torch.equal(ItemRandom(5, range(3)).randn(4)[:, :3], ItemRandom(5, range(3)).randn(3))


def test_scalars_and_large_items():
    assert ItemRandom(0, [1, 2]).rand().shape == ItemRandom(0, [1, 2]).randn().shape == (2,)
    assert ItemRandom(0, [2**40]).rand(4).ne(ItemRandom(0, [0]).rand(4)).all()
    wide = ItemRandom(0, range(1000)).randint(-5, 2**32 - 5)
    assert wide.min() < 2**28 and wide.max() > 2**32 - 2**28
    small = ItemRandom(0, range(1000)).randint(3, 6)
    assert small.unique().tolist() == [3, 4, 5] and small.bincount(minlength=6)[3:].min() > 280
    with pytest.raises(ValueError, match=r"between 1 and 2\^32 different integers"):
        ItemRandom(0, [0]).randint(3, 3)


def test_generators_for_others_are_the_items_own():
    whole, part = ItemRandom(1, range(4), "s").generators, ItemRandom(1, [2], "s").generators
    assert torch.equal(torch.randn(3, generator=whole[2]), torch.randn(3, generator=part[0]))
