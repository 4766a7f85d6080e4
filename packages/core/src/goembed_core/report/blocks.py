"""What a report is made of; the template draws each kind."""

from __future__ import annotations

from typing import NamedTuple

from goembed_core.metrics.results import ResultRow, Results
from goembed_core.report.strip import Strip


class Section(NamedTuple):
    """A heading, which the contents at the top point to."""

    title: str
    slug: str
    paragraphs: list[str]
    kind: str = "section"


class Text(NamedTuple):
    """Paragraphs."""

    paragraphs: list[str]
    kind: str = "text"


class Command(NamedTuple):
    """A command line, word for word."""

    command: str
    kind: str = "command"


class Facts(NamedTuple):
    """A collapsed list of names and values."""

    title: str
    facts: list[tuple[str, str]]
    kind: str = "facts"


class Cell(NamedTuple):
    """One field of a table."""

    text: str
    numeric: bool


class Table(NamedTuple):
    """Rows of fields."""

    headers: list[str]
    rows: list[list[Cell]]
    caption: str
    kind: str = "table"


class Picture(NamedTuple):
    """An image inside the page; its size is in CSS pixels."""

    source: str  # a data: address
    width: int
    height: int
    caption: str
    kind: str = "figure"


class Curves(NamedTuple):
    """Small plots side by side."""

    plots: list[Picture]
    caption: str
    kind: str = "curves"


class MetricRow(NamedTuple):
    """One metric, beside its baselines as numbers and as a drawing."""

    row: ResultRow
    value: str
    strip: Strip | None


class Metrics(NamedTuple):
    """The results."""

    results: Results
    rows: list[MetricRow]
    has_strips: bool
    has_intervals: bool
    kind: str = "metrics"
