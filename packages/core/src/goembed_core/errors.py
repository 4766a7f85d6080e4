"""Errors that are the user's to mend: the command line prints them as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """What was given, what was expected, and what to do about it; on one line, whatever characters were given."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(UserError):
    """A setting that cannot be used."""


class PluginError(UserError):
    """A plugin or component that is missing, broken or ambiguous; with the remedy, where one is known."""

    def __init__(self, message: str, remedy: str = ""):
        super().__init__(message)
        self.remedy = remedy


def one_line(text: str) -> str:
    """The text with every character that is not printable, such as a line break, escaped as in Python."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def whereabouts(path: Path) -> str:
    """A path that nothing was found at; of a relative one also the folder that it was looked for in."""
    return str(path) if path.is_absolute() else f"{path} (in {Path.cwd()})"


def closest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most like `name`, if any is like it at all."""
    lowered = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing."""
    match = closest(name, choices)
    return f"; did you mean {match!r}?" if match else ""
