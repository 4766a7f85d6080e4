"""A right dataset passes every check; every wrong one is caught by the checks that name it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from goembed_core.protocols import Dataset, Observations
from goembed_core.testing import Examination
from torch import Tensor


class Item(NamedTuple):
    image: Tensor
    label: int


class Nothing(NamedTuple):
    pass


class Pictures:
    """Seven pictures of noise."""

    def __init__(self):
        self.pixels = torch.randn(7, 1, 3, 3, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.item(index % len(self))

    def item(self, index):
        return Item(self.pixels[index].clone(), index)

    def observations(self, indices):
        return Observations(self.pixels[indices][:, None], Nothing())


CAUGHT: dict[str, tuple[type, set[str], str]] = {}  # by the mutant's name: class, failing checks, words of a message


def mutant(*checks: str, words: str = ""):
    """A broken dataset, the checks that fail for it, and words that one of the messages has."""

    def add(cls: type) -> type:
        CAUGHT[cls.__name__] = cls, set(checks), words
        return cls

    return add


@mutant("length", words="len() is 0")
class Empty(Pictures):
    def __init__(self):
        self.pixels = torch.zeros(0, 1, 3, 3)


@mutant("items", words="item 0 is a dict")
class Dictionaries(Pictures):
    def item(self, index):
        return super().item(index)._asdict()


@mutant("items", words="item 6 has {'image': torch.float64, 'label': torch.int64}")
class MixedDtypes(Pictures):
    def item(self, index):
        return super().item(index) if index < 6 else Item(self.pixels[index].double(), index)


@mutant("finite_items", words="image of item 2 has 1 numbers that are not finite")
class DividesByExtent(Pictures):
    def item(self, index):
        image = self.pixels[index].clone()
        image[0, 0, 0] /= 0 if index == 2 else 1
        return Item(image, index)


@mutant(
    "item_determinism",
    "global_rng",
    "items_are_copies",
    "index_errors",
    "picklable",
    words="augmentation by torch.rand",
)
class AugmentsGlobally(Pictures):
    def item(self, index):
        return Item(self.pixels[index] + torch.randn(1), index)


@mutant("item_determinism", "items_are_copies", "index_errors", "picklable", words="item 6, read again")
class AugmentsSecretly(Pictures):
    def item(self, index):
        return Item(self.pixels[index] + float(np.random.default_rng().normal()), index)


@mutant("item_determinism", words="of another one")
class ShufflesByGlobalSeed(Pictures):
    def __init__(self):
        super().__init__()
        self.pixels = self.pixels[torch.randperm(7)]


@mutant("items_are_copies", words="an item is a view of the cache")
class GivesViews(Pictures):
    def item(self, index):
        return Item(self.pixels[index], index)


@mutant("items_differ", words="read into one buffer")
class OneBuffer(Pictures):
    def __init__(self):
        super().__init__()
        self.buffer = torch.zeros(1, 3, 3)

    def item(self, index):
        return Item(self.buffer.copy_(self.pixels[index]), 0)


@mutant("index_errors", words="item 7 of 7 is given out")
class WrapsAround(Pictures):
    def __getitem__(self, index):
        return self.item(index % len(self))


@mutant("index_errors", words="item 7 of 7 raises KeyError")
class WrongError(Pictures):
    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise KeyError(index)
        return self.item(index % len(self))


@mutant("picklable", words="a lambda or a local class among its attributes")
class HoldsLambda(Pictures):
    def __init__(self):
        super().__init__()
        self.transform = lambda image: image


@mutant("collates", words="items of different shapes")
class RaggedItems(Pictures):
    def item(self, index):
        return Item(self.pixels[index, :, : 2 + index % 2].clone(), index)


@mutant("observations", words="expected (4, V, ...)")
class ViewsAreMissing(Pictures):
    def observations(self, indices):
        return Observations(self.pixels[indices].squeeze(1)[:, 0], Nothing())


@mutant("observations", words="the values are torch.float64")
class DoubleValues(Pictures):
    def observations(self, indices):
        return Observations(self.pixels[indices][:, None].double(), Nothing())


@mutant("observations_consistency", words="sorted indices")
class SortsIndices(Pictures):
    def observations(self, indices):
        return super().observations(indices.sort().values)


@mutant("observations_errors", words="index 7 of 7 gives values (2, 1, 1, 3, 3)")
class ObservationsWrapAround(Pictures):
    def observations(self, indices):
        return super().observations(indices % len(self))


def setup(name):
    """Kind, factory and options of a mutant."""
    return "dataset", CAUGHT[name][0], {}


def test_a_right_one_passes():
    assert isinstance(Pictures(), Dataset)
    results = Examination("dataset", Pictures).results()
    assert {r.name: r.message for r in results if r.status not in ("passed", "skipped")} == {}
    assert [r.name for r in results if r.status == "skipped"] == ["config_round_trip", "config_untouched"]


@pytest.mark.parametrize("name", CAUGHT)
def test_a_wrong_one_is_caught_by_name(name, failures):
    cls, checks, words = CAUGHT[name]
    failed = failures("dataset", cls)
    assert set(failed) == checks
    assert any(words in message for message in failed.values()), "\n".join(failed.values())
