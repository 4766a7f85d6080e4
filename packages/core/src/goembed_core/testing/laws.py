"""A law: what is checked, how it is said, and what most often breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Body = Callable[[Any], None]


class Law(NamedTuple):
    """One check; `run` raises `Broken` or `NotApplicable`."""

    name: str
    text: str
    cause: str
    run: Body
    is_prerequisite: bool = False  # the laws after it make no sense without it


class Broken(Exception):
    """The law does not hold.

    **Arguments:**
    - `happened`: in figures.
    - `cause`: the likely one, where it is known better than by the law.
    """

    def __init__(self, happened: str, cause: str | None = None):
        super().__init__(happened)
        self.happened = happened
        self.cause = cause


class NotApplicable(Exception):
    """The law says nothing about this component; the text is the reason."""


def law(text: str, *, cause: str, is_prerequisite: bool = False) -> Callable[[Body], Law]:
    """Make a law of a function, which gives it its name."""

    def decorate(body: Body) -> Law:
        return Law(body.__name__, text, cause, body, is_prerequisite)

    return decorate
