"""Progress: a live line with ETA, images/s and memory on a terminal, plain lines elsewhere."""

from __future__ import annotations

import resource
import sys
import time
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 15.0


def memory_mib(device: torch.device) -> float:
    """Peak memory in MiB: of the device for CUDA, of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def duration(seconds: float) -> str:
    """`75.2` to `1:15`, `3700` to `1:01:40`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class ProgressLine:
    """Counts towards `total`; silent in every process but the main one.

    `with ProgressLine("train", total=1000) as line: line.advance_to(10, "loss 0.3")`.
    """

    def __init__(self, title: str, total: int, start: int = 0, unit: str = "images", enabled: bool = True):
        self.title, self.total, self.start, self.unit, self.enabled = title, total, start, unit, enabled
        self.console = Console(stderr=True)
        self.live = enabled and self.console.is_terminal
        self.done = start

    def __enter__(self) -> ProgressLine:
        self.began = self.last_plain = time.monotonic()
        if self.live:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]} {task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self.progress = Progress(*columns, console=self.console)
            self.task = self.progress.add_task(self.title, total=self.total, completed=self.start, rate="", note="")
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.live:
            self.progress.stop()

    def rate(self) -> float:
        """Units per second since the line began."""
        return (self.done - self.start) / max(time.monotonic() - self.began, 1e-9)

    def advance_to(self, done: int, note: str = "") -> None:
        """Report progress; a plain line is printed at the end and every few seconds at most."""
        self.done = done
        if not self.enabled:
            return
        rate = self.rate()
        if self.live:
            self.progress.update(self.task, completed=done, rate=f"{rate:.0f} {self.unit}/s", note=note)
            return
        now = time.monotonic()
        if done < self.total and now - self.last_plain < PLAIN_INTERVAL_S:
            return
        self.last_plain = now
        remaining = duration(max(self.total - done, 0) / rate) if rate > 0 else "?"
        speed = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        print(
            f"{self.title}: {done}/{self.total} {self.unit}, {speed}/s, {duration(now - self.began)} gone, "
            f"{remaining} left{', ' + note if note else ''}",
            file=sys.stderr,
            flush=True,
        )
