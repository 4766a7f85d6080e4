"""A metric's value, its interval and its baselines on one line: the small picture in each row of the metric table."""

from __future__ import annotations

import math
from typing import NamedTuple

from goembed_core.metrics.results import ResultRow, number

WIDTH_PX, MARGIN_PX = 168, 8


class Mark(NamedTuple):
    """One baseline's place on the line."""

    x: float
    label: str


class Strip(NamedTuple):
    """Positions in pixels; better is to the right, and larger where neither is better."""

    value: float
    interval: tuple[float, float] | None
    baselines: list[Mark]


def strip(row: ResultRow) -> Strip | None:
    """Lay a row out on a line; None when there is nothing finite to compare the value with."""
    interval = row.metric.interval
    if interval is not None and not all(map(math.isfinite, interval)):
        interval = None
    baselines = {name: value for name, value in row.baselines.items() if math.isfinite(value)}
    values = [row.metric.value, *(interval or ()), *baselines.values()]
    low, high = min(values), max(values)
    if not math.isfinite(row.metric.value) or low == high:
        return None
    logarithmic = low > 0 and high > 4 * low  # else one far baseline presses all others together

    def place(value: float) -> float:
        fraction = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        if row.metric.higher_is_better is False:
            fraction = 1 - fraction
        return round(MARGIN_PX + fraction * (WIDTH_PX - 2 * MARGIN_PX), 1)

    ends = None if interval is None else tuple(sorted(map(place, interval)))
    marks = [Mark(place(value), f"{name}: {number(value)}") for name, value in baselines.items()]
    return Strip(place(row.metric.value), ends, marks)
