"""The laws of datasets."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from goembed_core.protocols import Observations
from goembed_core.testing.building import builds
from goembed_core.testing.case import Case
from goembed_core.testing.compare import clone, global_states, moved_generators, require_same, shape_text
from goembed_core.testing.laws import Broken, NotApplicable, law
from goembed_core.testing.state import config_round_trip, config_untouched
from goembed_core.trees import named_leaves, tree_map

SHOWN = 4  # items that are looked at


def as_tree(item: Any) -> Any:
    """An item with its numbers as tensors."""
    if isinstance(item, bool | int | float):
        return torch.tensor(item)
    if isinstance(item, tuple):
        parts = [as_tree(part) for part in item]
        return type(item)(*parts) if type(item) is not tuple else tuple(parts)
    return item


def numbers(length: int) -> list[int]:
    """Which items are looked at: the first ones and the last."""
    return sorted({*range(min(length, SHOWN - 1)), length - 1})


def read(dataset: Any, index: int) -> Any:
    """A copy of an item, which has been checked to be a tree of tensors and numbers."""
    item = as_tree(dataset[index])
    try:
        return clone(item)
    except TypeError as error:
        raise Broken(f"item {index} is a {type(item).__name__} ({error})") from error


@law(
    "it has items: len() is a positive number",
    cause="a folder that is empty, or a filter that leaves nothing",
    is_prerequisite=True,
)
def length(case: Case) -> None:
    found = len(case.build())
    if found < 1:
        raise Broken(f"len() is {found}")


@law(
    "an item is a NamedTuple of tensors and numbers; all items have the same leaves and dtypes",
    cause="a dictionary, an array of numpy, or a leaf that only some items have",
    is_prerequisite=True,
)
def items(case: Case) -> None:
    dataset = case.build()
    kinds = {}
    for index in numbers(len(dataset)):
        item = read(dataset, index)
        if not hasattr(item, "_fields") and not isinstance(item, Tensor):
            raise Broken(f"item {index} is a {type(item).__name__}")
        kinds[index] = {name: leaf.dtype for name, leaf in named_leaves(item, "item").items()}
    for index, leaves in kinds.items():
        if leaves != kinds[0]:
            raise Broken(f"item {index} has {leaves}, item 0 has {kinds[0]}")


@law("every number of an item is finite", cause="a division by an empty extent, or a damaged file that was read anyway")
def finite_items(case: Case) -> None:
    dataset = case.build()
    for index in numbers(len(dataset)):
        for name, leaf in named_leaves(read(dataset, index), "item").items():
            if not leaf.isfinite().all():
                raise Broken(f"{name} of item {index} has {int((~leaf.isfinite()).sum())} numbers that are not finite")


@law(
    "an item is the same whenever it is read: again, after others, and from another one built alike",
    cause="augmentation by global random numbers (key them by seed and index), or an order that is the file system's",
)
def item_determinism(case: Case) -> None:
    dataset, other = case.build(seed=0), case.build(seed=1)
    chosen = numbers(len(dataset))
    first = {index: read(dataset, index) for index in chosen}
    for index in reversed(chosen):
        require_same(read(dataset, index), first[index], 0.0, f"item {index}, read again")
        require_same(read(other, index), first[index], 0.0, f"item {index} of another one")
    if len(other) != len(dataset):
        raise Broken(f"a second one has {len(other)} items, the first has {len(dataset)}")


@law(
    "reading an item leaves the process-wide random generators alone",
    cause="augmentation by torch.rand, numpy.random or random",
)
def global_rng(case: Case) -> None:
    dataset = case.build()
    before = global_states()
    dataset[0]
    moved = moved_generators(before)
    if moved:
        raise Broken(f"reading item 0 moved the generator of {' and of '.join(moved)}")


@law(
    "items are one's own: writing into one changes neither the dataset nor another item",
    cause="an item is a view of the cache; clone it",
)
def items_are_copies(case: Case) -> None:
    dataset = case.build()
    kept = {index: read(dataset, index) for index in numbers(len(dataset))}
    tree_map(lambda leaf: leaf.fill_(1) if leaf.dim() else leaf, as_tree(dataset[0]))
    for index, item in kept.items():
        require_same(read(dataset, index), item, 0.0, f"item {index}, after writing into item 0")


@law(
    "items are different: no two of those looked at are equal",
    cause="the index is not used, or every file is read into one buffer",
)
def items_differ(case: Case) -> None:
    dataset = case.build()
    chosen = numbers(len(dataset))
    if len(chosen) < 2:
        raise NotApplicable("it has a single item")
    held = [dataset[index] for index in chosen]  # held together, as a batch is
    texts = [pickle.dumps([leaf.tolist() for leaf in named_leaves(as_tree(item), "item").values()]) for item in held]
    if len(set(texts)) == 1:
        raise Broken(f"items {', '.join(map(str, chosen))} are all equal")


@law(
    "an index outside of [-len, len) is an IndexError, so that `for item in dataset` ends; -1 is the last item",
    cause="an index modulo the length, or a check that is missing",
)
def index_errors(case: Case) -> None:
    dataset = case.build()
    size = len(dataset)
    require_same(read(dataset, -1), read(dataset, size - 1), 0.0, "item -1 against the last one")
    for index in (size, -size - 1):
        try:
            dataset[index]
        except IndexError:
            continue
        except Exception as error:
            raise Broken(f"item {index} of {size} raises {type(error).__name__}: {error}") from error
        raise Broken(f"item {index} of {size} is given out")


@law(
    "it can be pickled, as worker processes need, and is the same afterwards",
    cause="an open file, a lambda or a local class among its attributes; open files on first use",
)
def picklable(case: Case) -> None:
    dataset = case.build()
    before = read(dataset, 0)
    try:
        copy = pickle.loads(pickle.dumps(dataset))
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    if len(copy) != len(dataset):
        raise Broken(f"it has {len(copy)} items afterwards, {len(dataset)} before")
    require_same(read(copy, 0), before, 0.0, "item 0 afterwards")


@law(
    "torch's default collate makes a batch of items",
    cause="items of different shapes; declare equal_shapes=False if that is meant",
)
def collates(case: Case) -> None:
    if not case.traits.equal_shapes:
        raise NotApplicable("declared (`equal_shapes=False`)")
    dataset = case.build()
    chosen = numbers(len(dataset))
    try:
        default_collate([dataset[index] for index in chosen])
    except (RuntimeError, TypeError) as error:
        shapes = "; ".join(f"item {index}: {shape_text(read(dataset, index))}" for index in chosen)
        raise Broken(f"{' '.join(str(error).split()):.150} ({shapes})") from error


@law(
    "observations(indices) gives Observations, values (B, V, ...) in float32 and φ alike",
    cause="a missing dimension of views, integers as they lie in the file, or float64 from numpy",
)
def observations(case: Case) -> None:
    dataset = case.build()
    chosen = torch.tensor(numbers(len(dataset)))
    found = dataset.observations(chosen)
    if not isinstance(found, Observations):
        raise Broken(f"it gives a {type(found).__name__}")
    if found.values.dtype != torch.float32 or not found.values.isfinite().all():
        raise Broken(f"the values are {found.values.dtype}, and finite is {bool(found.values.isfinite().all())}")
    shapes = {tuple(leaf.shape[:2]) for leaf in named_leaves(found, "observations").values()}
    if found.values.dim() < 3 or len(shapes) > 1 or found.values.shape[0] != len(chosen):
        raise Broken(f"{len(chosen)} signals give {shape_text(found)}, expected ({len(chosen)}, V, ...)")


@law(
    "observations are a signal's own: those of [i, j] are those of i and those of j",
    cause="a statistic over the batch, sorted indices, or views that are drawn from global random numbers",
)
def observations_consistency(case: Case) -> None:
    dataset = case.build()
    chosen = torch.tensor(numbers(len(dataset))).flip(0)
    whole = clone(dataset.observations(chosen))
    for row, index in enumerate(chosen.tolist()):
        alone = dataset.observations(torch.tensor([index]))
        expected = tree_map(lambda leaf, row=row: leaf[row : row + 1], whole)
        require_same(alone, expected, 0.0, f"signal {index} alone against in a batch")
    none = shape_text(dataset.observations(chosen[:0]))
    expected = shape_text(tree_map(lambda leaf: leaf[:0], whole))
    if none != expected:
        raise Broken(f"no indices give {none}, expected {expected}")


@law(
    "observations of an index that is not there are refused: IndexError, or UserError with the index",
    cause="an index modulo the length, or a check that is missing",
)
def observations_errors(case: Case) -> None:
    dataset = case.build()
    try:
        found = dataset.observations(torch.tensor([0, len(dataset)]))
    except Exception as error:
        if not isinstance(error, IndexError) and str(len(dataset)) not in str(error):
            raise Broken(f"it raises {type(error).__name__}: {error}") from error
    else:
        raise Broken(f"index {len(dataset)} of {len(dataset)} gives {shape_text(found)}")


LAWS = (
    builds, length, items, config_round_trip, config_untouched, finite_items, item_determinism, global_rng,
    items_are_copies, items_differ, index_errors, picklable, collates, observations, observations_consistency,
    observations_errors,
)  # fmt: skip
