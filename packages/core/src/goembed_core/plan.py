"""What a task trains: who is optimised, by which moves, on what data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from goembed_core.config import OptimizerConfig
from goembed_core.diffusion import Terms
from goembed_core.optimizers import Player
from goembed_core.randomness import ItemRandom

Batch = Any
Losses = Callable[[Batch, ItemRandom], Terms]
Data = Callable[[Iterator[Sequence[int]]], Iterable[Batch]]


class Phase(NamedTuple):
    """One move of a player: the losses whose gradient it follows, in every `every`-th step."""

    name: str
    player: str
    losses: Losses
    every: int = 1


def fresh_items(positions: Iterator[Sequence[int]]) -> Iterator[None]:
    """The data of a task whose items are made from random numbers alone."""
    for _ in positions:
        yield None


def unchanged(batch: Batch, random: ItemRandom) -> Batch:
    """The default of `Plan.prepare`."""
    return batch


@dataclass(frozen=True)
class Plan:
    """What a task trains.

    **Arguments:**
    - `modules`: everything whose state is saved, by name.
    - `players`, `phases`: who is optimised, and the moves of one step, in order.
    - `data`: from the stream of positions of this process's micro-batches (position = observations seen before the
      item) to the stream of batches on the right device.
    - `prepare`: run once a micro-batch, without gradients, before the phases share its result.
    - `averaged`: names of the modules whose EMA is kept.
    - `independent`: no player's losses depend on another player, so that one process on a CPU may play them side by
      side, each on its share of the threads (GAN inversion's two networks on two cores: 183 images/s, and 167 one after
      the other).
    - `preview`, `evaluate`: called on the main process with the images seen and the averaged modules; `evaluate`
      returns figures for the log.
    """

    modules: dict[str, nn.Module]
    players: dict[str, Player]
    phases: Sequence[Phase]
    data: Data = fresh_items
    prepare: Callable[[Batch, ItemRandom], Batch] = unchanged
    averaged: tuple[str, ...] = ()
    independent: bool = False
    preview: Callable[[int, dict[str, nn.Module]], None] | None = None
    evaluate: Callable[[int, dict[str, nn.Module]], dict[str, float]] | None = None

    @classmethod
    def side_by_side(
        cls,
        networks: Mapping[str, nn.Module],
        optimizer: OptimizerConfig,
        losses: Mapping[str, Losses],
        *,
        data: Data = fresh_items,
        prepare: Callable[[Batch, ItemRandom], Batch] = unchanged,
        preview: Callable[[int, dict[str, nn.Module]], None] | None = None,
    ) -> Plan:
        """Networks that learn from the same batches, each by itself, with an optimiser of its own; all are averaged."""
        return cls(
            modules=dict(networks),
            players={name: Player(network, optimizer) for name, network in networks.items()},
            phases=[Phase(name, name, losses[name]) for name in networks],
            data=data,
            prepare=prepare,
            averaged=tuple(networks),
            independent=True,
            preview=preview,
        )
