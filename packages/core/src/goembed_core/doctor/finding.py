"""What was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from goembed_core.plugins import describe


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; what failed or warns says what to do about it."""

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.status:<8}{self.name}: {self.detail}" + (f"\n        -> {self.remedy}" if self.remedy else "")


def guarded(check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an exception of its own is one more."""
    try:
        yield from check()
    except Exception as error:
        name = check.__name__.removeprefix("check_")
        yield Finding(name, "failed", describe(error), "this is a defect of `goembed doctor`; please report it")
