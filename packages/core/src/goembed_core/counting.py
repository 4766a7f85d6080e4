"""Counting images: running means between two lines of a log, and intervals."""

from __future__ import annotations

from torch import Tensor


class RunningMeans:
    """Means of device scalars; read once per log line, so that no step waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Count one more value of each name."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach().clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def pop(self) -> dict[str, Tensor]:
        """The means since the last call."""
        means = {name: value.float() / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


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
