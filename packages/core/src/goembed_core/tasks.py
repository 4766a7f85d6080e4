"""What a task is to the command line: something that trains, judges and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from goembed_core.metrics.results import Results
from goembed_core.runs import Run


class Task(Protocol):
    """A composition of components, trained and judged; built from its resolved settings, which it checks at once.

    Bad input (missing weights, an unreadable dataset) is a UserError from the constructor, before there is a run.
    """

    def __init__(self, config: Any): ...

    def train(self, run: Run) -> None:
        """Train until `train.images` are seen, going on from the run's checkpoints, and leave `run.model`."""
        ...

    def evaluate(self, run: Run) -> Results:
        """Judge `run.model`, and write pictures and `report.html`.  Called on the main process only."""
        ...

    @staticmethod
    def sample(run: Run | None, config: Any) -> Path:
        """Sample from a run's model, or from the task's embedded one, and return the folder of the pictures."""
        ...
