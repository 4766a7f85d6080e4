"""SIGINT and SIGTERM as a wish to stop, which is granted between two steps."""

from __future__ import annotations

import signal
from typing import Any

from goembed_core.errors import UserError


class Interrupted(UserError):
    """Training was stopped by a signal, and saved."""


class StopSignal:
    """`received` becomes true at the first SIGINT or SIGTERM inside the block; a second one is obeyed at once."""

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> StopSignal:
        try:
            self.previous = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread, where signals are somebody else's
            self.previous = {}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self.received = True
        signal.signal(number, self.previous[number])
