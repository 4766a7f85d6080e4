"""`metrics.json`: what `evaluate` found, for machines and for people.  Free of torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from rich.markup import escape
from rich.table import Table

from goembed_core.errors import UserError
from goembed_core.files import write_atomically

# JSON has no NaN and no infinity: they are written as null, and null is read as NaN.
Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: value if math.isfinite(value) else None, when_used="json"),
]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MetricValue:
    """One figure: its value, which direction is good, over how many samples, and what a reader must know of it."""

    value: Number
    higher_is_better: bool | None  # None, null in JSON: neither, the note says what is right
    n: Annotated[int, Field(ge=1)]
    note: str = ""
    interval: tuple[Number, Number] | None = None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Results:
    """The content of `metrics.json`; `baselines` maps a baseline's name to its value per metric."""

    task: str
    images_seen: Annotated[int, Field(ge=0)]
    metrics: dict[str, MetricValue]
    baselines: dict[str, dict[str, Number]] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | str) -> Results:
        """Read `metrics.json`."""
        try:
            return _ADAPTER.validate_json(Path(path).read_bytes())
        except OSError as error:
            raise UserError(
                f"cannot read the results {path}: {error.strerror}; `goembed evaluate` writes them"
            ) from None
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "the file"
            raise UserError(f"{path} is not a metrics.json: {where}: {error.errors()[0]['msg']}") from None

    def write(self, path: Path | str) -> None:
        """Write `metrics.json`; a reader sees the old file or the new one, never a part."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _ADAPTER.dump_json(self, indent=2) + b"\n")

    def rows(self) -> list[ResultRow]:
        """One row per metric, with its value under every baseline that has it."""
        return [
            ResultRow(name, metric, {b: values[name] for b, values in self.baselines.items() if name in values})
            for name, metric in self.metrics.items()
        ]

    def table(self) -> Table:
        """The results for the terminal."""
        table = Table(title=f"{escape(self.task)}, {self.images_seen:,} images seen", title_justify="left")
        table.add_column("metric", overflow="fold")
        for header in ("value", "95 %", "n", *map(escape, self.baselines)):
            table.add_column(header, justify="right")
        for row in self.rows():
            table.add_row(
                f"{escape(row.name)} {row.arrow}",
                f"[bold]{number(row.metric.value)}[/bold]",
                "" if row.metric.interval is None else " … ".join(map(number, row.metric.interval)),
                f"{row.metric.n:,}",
                *(_coloured(row, name) if name in row.baselines else "" for name in self.baselines),
            )
        return table


class ResultRow(NamedTuple):
    """One metric beside its baselines."""

    name: str
    metric: MetricValue
    baselines: dict[str, float]

    @property
    def arrow(self) -> str:
        """Which way is better; a dot where neither is."""
        return {True: "↑", False: "↓", None: "·"}[self.metric.higher_is_better]

    def beats(self, baseline: str) -> bool | None:
        """Is the value better than that baseline's?  None where that is open, or no direction is good."""
        other = self.baselines[baseline]
        low, high = self.metric.interval or (self.metric.value, self.metric.value)
        if self.metric.higher_is_better is None or not all(map(math.isfinite, (low, high, other))):
            return None
        if low <= other <= high:
            return None
        return (low > other) == self.metric.higher_is_better


_ADAPTER = TypeAdapter(Results)


def _coloured(row: ResultRow, baseline: str) -> str:
    """A baseline's value: green where the run is better, red where it is worse."""
    colour = {True: "green", False: "red", None: "default"}[row.beats(baseline)]
    return f"[{colour}]{number(row.baselines[baseline])}[/]"


def number(value: float) -> str:
    """A figure with four significant digits, as people write it."""
    if not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    rounded = float(f"{value:.3e}")
    return f"{rounded:,.{max(0, 3 - math.floor(math.log10(abs(rounded)))) if rounded else 3}f}"


def metric_name(measure: str, features: str, n: int) -> str:
    """The name of a figure, with its feature network and sample count: `frechet_efficientnet-lite0_5k`."""
    return f"{measure}_{features}_{f'{n // 1000}k' if n >= 1000 and n % 1000 == 0 else n}"
