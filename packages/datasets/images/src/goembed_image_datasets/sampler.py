"""The endless order of training images: a function of seed and position, whatever the number of processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.randomness import derive_seed
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from goembed_image_datasets.images import ImageDataset


class ImageBatch(NamedTuple):
    """One process' share of a global batch."""

    images: Float[Tensor, "n channels height width"]
    labels: Int[Tensor, " n"]
    positions: Int[Tensor, " n"]  # how many images the run had seen before each: keys its random numbers


class ItemSampler:
    """`position n -> permutation(seed, n // N)[n % N]`: every item once an epoch, in a new order each."""

    def __init__(self, num_items: int, seed: int):
        if num_items < 1:
            raise UserError(f"an order of {num_items} items was asked for; expected at least one")
        self.num_items = num_items
        self.seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def indices(self, positions: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """The items at the given positions of the endless order."""
        epochs = positions // self.num_items
        result = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            result[here] = self._permutation(epoch)[positions[here] % self.num_items]
        return result

    def _permutation(self, epoch: int) -> Int[Tensor, " items"]:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch, "order of items"))
            self._epoch, self._order = epoch, torch.randperm(self.num_items, generator=generator)
        return self._order


def local_positions(start: int, batch_size: int, process_index: int, num_processes: int) -> range:
    """One process' positions of the global batch `start ... start + batch_size - 1`: a contiguous share of it."""
    if batch_size < 1 or batch_size % num_processes:
        raise UserError(
            f"a batch of {batch_size} images cannot be shared by {num_processes} processes; "
            f"give a batch size that is a multiple of {num_processes}"
        )
    share = batch_size // num_processes
    first = start + process_index * share
    return range(first, first + share)


def batches(
    dataset: ImageDataset,
    seed: int,
    start: int,
    batch_size: int,
    process_index: int = 0,
    num_processes: int = 1,
    workers: int = 0,
) -> Iterator[ImageBatch]:
    """Endless batches from position `start` on; the union over the processes does not depend on their number.

    **Arguments:**
    - `start`: how many images the run has seen; a resumed run continues where it stopped.
    - `batch_size`: images of the global batch, over all processes.
    - `workers`: as in `batches_at`.
    """
    local_positions(start, batch_size, process_index, num_processes)  # complain now, not at the first batch
    starts = itertools.count(start, batch_size)
    positions = (local_positions(first, batch_size, process_index, num_processes) for first in starts)
    return batches_at(dataset, seed, positions, workers)


def batches_at(
    dataset: ImageDataset, seed: int, positions: Iterable[Sequence[int]], workers: int = 0
) -> Iterator[ImageBatch]:
    """The batches at given positions of the endless order: what a trainer that counts for itself asks for.

    **Arguments:**
    - `workers`: processes that decode ahead; of no use to a set that is in memory, which then gathers at once.
    """
    lookup = _Lookup(dataset, ItemSampler(len(dataset), seed))
    if workers == 0 or dataset.in_memory:
        return map(_raised, map(lookup.__getitem__, positions))
    loader = DataLoader(
        lookup,
        sampler=positions,
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),  # else the loader draws from torch's global numbers
    )
    return map(_raised, loader)


class _Lookup(Dataset[ImageBatch | UserError]):
    """The batch at some positions, as an item of a map-style dataset."""

    def __init__(self, dataset: ImageDataset, sampler: ItemSampler):
        self.dataset = dataset
        self.sampler = sampler

    def __getitem__(self, positions: Sequence[int]) -> ImageBatch | UserError:
        places = torch.tensor(positions)
        indices = self.sampler.indices(places)
        try:
            return ImageBatch(self.dataset.gather(indices), self.dataset.labels[indices], places)
        except UserError as error:  # as a value: crossing from a worker, an exception becomes a printed traceback
            return error


def _raised(batch: ImageBatch | UserError) -> ImageBatch:
    if isinstance(batch, UserError):
        raise batch
    return batch
