"""Training curves from `metrics.jsonl`: one JSON object a line, with the images seen and any numbers beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from goembed_core.errors import UserError
from goembed_core.report.style import COLOURS, legend, new_figure, quiet

IMAGES = "images"
HALFLIFE = 0.01  # of the smoothing, as a fraction of the run
MAX_POINTS = 1500
LEGEND_COLUMNS = 3


def read_curves(path: Path | str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`{key: (images_seen, values)}` of every number in a `metrics.jsonl`; nested objects give `outer/inner`.

    A line cut off by a crash is passed over when it is the last, and what a resumed run did again replaces what it had
    logged before.
    """
    rows: dict[int, dict[str, float]] = {}
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise UserError(f"cannot read the training curves {path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            images = int(row[IMAGES])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):
                break
            raise UserError(
                f"{path}, line {number}: expected a JSON object with {IMAGES!r}, got {line[:80]!r}"
            ) from None
        while rows and next(reversed(rows)) > images:
            rows.popitem()
        rows[images] = rows.get(images, {}) | {key: value for key, value in _numbers(row) if key != IMAGES}
    keys = dict.fromkeys(key for row in rows.values() for key in row)
    return {
        key: (
            np.array([images for images, row in rows.items() if key in row], dtype=np.float64),
            np.array([row[key] for row in rows.values() if key in row], dtype=np.float64),
        )
        for key in keys
    }


def _numbers(row: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield prefix + key, float(value)


def smooth(images: np.ndarray, values: np.ndarray, halflife: float) -> np.ndarray:
    """Exponential average over images, unbiased at the start; values that are not finite are left out."""
    total = weight = 0.0
    smoothed = np.empty(len(values))
    for i, value in enumerate(values):
        decay = 0.5 ** ((images[i] - images[i - 1]) / halflife) if i and halflife > 0 else 0.0
        total, weight = total * decay, weight * decay
        if math.isfinite(value):
            total, weight = total + value, weight + 1
        smoothed[i] = total / weight if weight else math.nan
    return smoothed


def curve_figures(path: Path | str) -> dict[str, Figure]:
    """One small plot per group of keys (what stands before the last `/`)."""
    groups: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for key, curve in read_curves(path).items():
        group, _, name = key.rpartition("/")
        groups.setdefault(group or name, {})[name] = curve
    return {group: _figure(curves) for group, curves in groups.items()}


def _figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    rows = math.ceil(len(curves) / LEGEND_COLUMNS) if len(curves) > 1 else 0
    width, height, head = 300, 170, 6 + 15 * rows
    figure = new_figure(width, height + head)
    axes = quiet(figure.add_axes((50 / width, 24 / (height + head), 1 - 60 / width, (height - 24) / (height + head))))
    ends: list[float] = []
    for index, (name, (images, values)) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = smooth(images, values, HALFLIFE * float(np.ptp(images)) if len(images) else 0.0)
        kept = np.unique(np.linspace(0, len(images) - 1, min(len(images), MAX_POINTS)).round().astype(int))
        axes.plot(images[kept], values[kept], color=colour, alpha=0.22, linewidth=0.7)
        marker = "o" if len(kept) < 3 else None
        axes.plot(images[kept], line[kept], color=colour, linewidth=1.5, label=name, marker=marker, markersize=3)
        ends += _ends(values)
    if ends:
        low, high = min(ends), max(ends)
        margin = max(0.08 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-12)  # a constant stays a flat line
        axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_formatter(_short)
    axes.yaxis.set_major_formatter(_short)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if len(curves) > 1:
        legend(axes, LEGEND_COLUMNS)
    return figure


def _ends(values: np.ndarray) -> list[float]:
    """The least and the greatest value, of many without the outermost hundredth: a spike must not flatten the rest."""
    finite = values[np.isfinite(values)]
    cut = 1 if len(finite) > 100 else 0
    return np.percentile(finite, [cut, 100 - cut]).tolist() if len(finite) else []


def _short(value: float, position: int | None = None) -> str:
    """A tick's label: `25k`, `1.5M`, `0.002`."""
    return EngFormatter(sep="")(value) if abs(value) >= 1000 else f"{value:.4g}"
