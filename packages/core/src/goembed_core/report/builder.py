"""`Report`: collects text, tables and pictures and writes them as one self-contained HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from goembed_core.errors import UserError
from goembed_core.files import write_atomically
from goembed_core.metrics.results import Results, number
from goembed_core.report.blocks import Cell, Command, Curves, Facts, MetricRow, Metrics, Picture, Section, Table, Text
from goembed_core.report.curves import curve_figures
from goembed_core.report.pictures import animation, picture
from goembed_core.report.strip import strip

Block = Section | Text | Command | Facts | Table | Picture | Curves | Metrics


class Report:
    """Builds `report.html`: blocks appear in the order in which they were added; every text is escaped.

    The page needs no network, no script and no other file, follows the reader's light or dark setting, and prints.
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title = title
        self.subtitle = subtitle
        self._blocks: list[Block] = []
        self._sections: list[Section] = []

    def command(self, command: str) -> None:
        """The exact command that made what is reported."""
        self._blocks.append(Command(command))

    def environment(self, environment: Mapping[str, object], title: str = "Environment") -> None:
        """Versions, hardware, times: a collapsed list; nested mappings become `outer.inner`."""
        self._blocks.append(Facts(title, list(_flat(environment))))

    def section(self, title: str, text: str = "") -> None:
        """A heading and its paragraphs (separated by blank lines)."""
        slug = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
        taken = {section.slug for section in self._sections}
        slug = next(s for s in (slug, *(f"{slug}-{i}" for i in range(2, len(taken) + 3))) if s not in taken)
        section = Section(title, slug, _paragraphs(text))
        self._sections.append(section)
        self._blocks.append(section)

    def text(self, text: str) -> None:
        """More paragraphs."""
        self._blocks.append(Text(_paragraphs(text)))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
        """A table; numbers are right-aligned, floats rounded to four significant digits."""
        body = [[_cell(value) for value in row] for row in rows]
        for row in body:
            if len(row) != len(headers):
                raise UserError(f"a table of {len(headers)} columns {list(headers)} got a row of {len(row)}")
        self._blocks.append(Table([str(header) for header in headers], body, caption))

    def figure(self, figure: Figure | Image.Image | np.ndarray, caption: str = "") -> None:
        """A matplotlib Figure, a PIL image, or a uint8 array (H, W), (H, W, 3) or (H, W, 4)."""
        self._blocks.append(picture(figure, caption))

    def animation(self, gif: bytes, caption: str = "") -> None:
        """An animated GIF, as it is."""
        self._blocks.append(animation(gif, caption))

    def metrics(self, results: Results) -> None:
        """The figures of `metrics.json` beside their baselines and intervals."""
        rows = [MetricRow(row, number(row.metric.value), strip(row)) for row in results.rows()]
        has_strips = any(row.strip is not None for row in rows)
        has_intervals = any(metric.interval is not None for metric in results.metrics.values())
        self._blocks.append(Metrics(results, rows, has_strips, has_intervals))

    def curves(self, path: Path | str, caption: str = "") -> None:
        """The training curves in a `metrics.jsonl`, one small plot per group, over images seen."""
        plots = [picture(figure, name) for name, figure in curve_figures(path).items()]
        self._blocks.append(Curves(plots, caption))

    def html(self, written: datetime | None = None) -> str:
        """The page as text."""
        return (
            _environment()
            .get_template("template.html.j2")
            .render(
                title=self.title,
                subtitle=self.subtitle,
                blocks=self._blocks,
                sections=self._sections,
                written=(written or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M %Z").strip(),
            )
        )

    def write(self, path: Path | str) -> None:
        """Write the page; a reader sees the old one or the new one, never a part."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.html())


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("goembed_core", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def _flat(mapping: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _cell(value: object) -> Cell:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return Cell(str(value), False)
    if isinstance(value, (int, np.integer)):
        return Cell(f"{value:,}", True)
    return Cell(number(float(value)), True)
