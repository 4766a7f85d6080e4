"""Counting images: running means between two lines of a log, and intervals."""

from __future__ import annotations

import torch
from torch import Tensor

from goembed_core.precision import at_least_float32


class RunningMeans:
    """Means of device scalars; read once per log line, so that no step waits for the device.

    A value that is not finite is not counted.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Count one more value of each name."""
        for name, value in values.items():
            value = at_least_float32(value.detach())
            finite = value.isfinite()
            value, one = torch.where(finite, value, torch.zeros_like(value)), finite.to(torch.float32)
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts[name] + one if name in self.counts else one

    def pop(self) -> dict[str, Tensor]:
        """The means since the last call; NaN where nothing finite was added."""
        means = {name: value / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state(self) -> dict[str, Tensor]:
        """Sums and counts, for a checkpoint."""
        return {f"sum/{n}": v for n, v in self.sums.items()} | {f"count/{n}": v for n, v in self.counts.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The reverse of `state`."""
        self.sums = {key.removeprefix("sum/"): v for key, v in state.items() if key.startswith("sum/")}
        self.counts = {key.removeprefix("count/"): v for key, v in state.items() if key.startswith("count/")}


class Interval:
    """Says when another multiple of `every` images has been passed; 0 is never."""

    def __init__(self, every: int, images_seen: int):
        self.every = every
        self.last = images_seen // every if every else 0

    def passed(self, images_seen: int) -> bool:
        """True once for every multiple that has been passed."""
        if not self.every or images_seen // self.every == self.last:
            return False
        self.last = images_seen // self.every
        return True
