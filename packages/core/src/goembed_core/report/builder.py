"""`Report`: collects text, tables and pictures and writes them as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from goembed_core.errors import UserError
from goembed_core.files import write_atomically
from goembed_core.metrics.results import Results, number
from goembed_core.report.curves import curve_figures
from goembed_core.report.strip import strip
from goembed_core.report.style import DEVICE_PX


class Picture(NamedTuple):
    """An image inside the page."""

    kind: str
    source: str  # a data: address
    width: int  # CSS pixels
    height: int
    caption: str


class Report:
    """Builds `report.html`: blocks appear in the order in which they were added; every text is escaped.

    The page needs no network, no script and no other file, follows the reader's light or dark setting, and prints.
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title = title
        self.subtitle = subtitle
        self._blocks: list[object] = []
        self._sections: list[Section] = []

    def command(self, command: str) -> None:
        """The exact command that made what is reported."""
        self._blocks.append(Command("command", command))

    def environment(self, environment: Mapping[str, object], title: str = "Environment") -> None:
        """Versions, hardware, times: a collapsed list; nested mappings become `outer.inner`."""
        self._blocks.append(Facts("facts", title, list(_flat(environment))))

    def section(self, title: str, text: str = "") -> None:
        """A heading and its paragraphs (separated by blank lines)."""
        slug = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
        taken = {section.slug for section in self._sections}
        slug = next(s for s in (slug, *(f"{slug}-{i}" for i in range(2, len(taken) + 3))) if s not in taken)
        section = Section("section", title, slug, _paragraphs(text))
        self._sections.append(section)
        self._blocks.append(section)

    def text(self, text: str) -> None:
        """More paragraphs."""
        self._blocks.append(Text("text", _paragraphs(text)))

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
        """A table; numbers are right-aligned, floats rounded to four significant digits."""
        body = [[_cell(value) for value in row] for row in rows]
        for row in body:
            if len(row) != len(headers):
                raise UserError(f"a table of {len(headers)} columns {list(headers)} got a row of {len(row)}")
        self._blocks.append(Table("table", [str(header) for header in headers], body, caption))

    def figure(self, figure: Figure | Image.Image | np.ndarray, caption: str = "") -> None:
        """A matplotlib Figure, a PIL image, or a uint8 array (H, W), (H, W, 3) or (H, W, 4)."""
        self._blocks.append(_picture(figure, caption))

    def metrics(self, results: Results) -> None:
        """The figures of `metrics.json` beside their baselines and intervals."""
        rows = [MetricRow(row, number(row.metric.value), strip(row)) for row in results.rows()]
        has_strips = any(row.strip is not None for row in rows)
        has_intervals = any(metric.interval is not None for metric in results.metrics.values())
        self._blocks.append(Metrics("metrics", results, rows, has_strips, has_intervals))

    def curves(self, path: Path | str, caption: str = "") -> None:
        """The training curves in a `metrics.jsonl`, one small plot per group, over images seen."""
        plots = [_picture(figure, name) for name, figure in curve_figures(path).items()]
        self._blocks.append(Curves("curves", plots, caption))

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


class Command(NamedTuple):
    kind: str
    command: str


class Facts(NamedTuple):
    kind: str
    title: str
    items: list[tuple[str, str]]


class Section(NamedTuple):
    kind: str
    title: str
    slug: str
    paragraphs: list[str]


class Text(NamedTuple):
    kind: str
    paragraphs: list[str]


class Cell(NamedTuple):
    text: str
    numeric: bool


class Table(NamedTuple):
    kind: str
    headers: list[str]
    rows: list[list[Cell]]
    caption: str


class MetricRow(NamedTuple):
    row: object
    value: str
    strip: object


class Metrics(NamedTuple):
    kind: str
    results: Results
    rows: list[MetricRow]
    has_strips: bool
    has_intervals: bool


class Curves(NamedTuple):
    kind: str
    plots: list[Picture]
    caption: str


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


def _picture(figure: Figure | Image.Image | np.ndarray, caption: str) -> Picture:
    if isinstance(figure, Figure):
        image = _rasterised(figure)
        width, height = math.ceil(image.width / DEVICE_PX), math.ceil(image.height / DEVICE_PX)
    else:
        image = figure if isinstance(figure, Image.Image) else _from_array(figure)
        width, height = image.size
    return Picture("figure", _data_address(image), width, height, caption)


def _rasterised(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    canvas.print_figure(buffer, format="png", dpi=figure.dpi)
    return Image.open(buffer)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UserError(
            f"a picture must be a uint8 array (H, W), (H, W, 3) or (H, W, 4); got {array.dtype} of shape {array.shape}"
        )
    return Image.fromarray(array)


def _data_address(image: Image.Image) -> str:
    """Lossless WebP where it is smaller than PNG (it mostly is)."""
    encoded = {}
    for kind, options in {"png": {"optimize": True}, "webp": {"lossless": True, "quality": 80}}.items():
        buffer = io.BytesIO()
        (image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA")).save(buffer, kind, **options)
        encoded[kind] = buffer.getvalue()
    kind, content = min(encoded.items(), key=lambda item: len(item[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
