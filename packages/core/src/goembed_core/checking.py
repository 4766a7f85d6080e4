"""`goembed check`: the conformance suite on a registered plugin, as a table or as JSON; free of pytest."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from goembed_core.config import ConfigError, resolve_model
from goembed_core.errors import UserError, did_you_mean
from goembed_core.plugins import Component, host, spoken

if TYPE_CHECKING:
    from goembed_core.testing import Result

CHECKED = ("forward-model", "encoder", "denoiser", "dataset", "radiance-field")
MARKS = {"passed": "ok", "failed": "FAILED", "expected": "expected failure", "skipped": "-"}
STYLES = {"passed": "green", "failed": "bold red", "expected": "yellow", "skipped": "dim"}


def run_check(options: argparse.Namespace, overrides: list[str]) -> int:
    """Check one component; 1 if a law is broken."""
    component = find(options.kind, options.name)
    factory = component_factory(component, overrides)
    from goembed_core.testing import Examination

    try:
        factory()
    except UserError:
        raise  # settings that do not go together are the user's to mend; the suite tells of anything else
    except Exception:
        pass
    results = Examination(component.kind, factory).results()
    if options.json:
        print(json.dumps(as_json(component, overrides, results), indent=2))
    else:
        print_table(component, overrides, results)
    return 1 if any(result.status == "failed" for result in results) else 0


def find(kind: str | None, name: str | None) -> Component:
    """The registered component."""
    if kind not in CHECKED:
        given = (
            "check what?" if kind is None else f"there are no checks for kind {kind!r}{did_you_mean(kind, CHECKED)};"
        )
        raise ConfigError(f"{given} give KIND NAME, where KIND is one of {', '.join(CHECKED)}")
    if name is None or "=" in name:
        available = ", ".join(host().names(kind)) or "none"
        raise ConfigError(f"which {spoken(kind)}? give goembed check {kind} NAME; available: {available}")
    return host().get(kind, name)


def component_factory(component: Component, overrides: list[str]) -> Callable[[], Any]:
    """A function that builds the component from its settings, which are checked here, before torch is imported."""
    model = component.load_config()
    if model is None:
        if overrides:
            given = ", ".join(overrides)
            raise ConfigError(f"{spoken(component.kind)} {component.name!r} has no settings, got {given}")
        return lambda: component.load()()
    settings = resolve_model(model, overrides).config
    return lambda: component.load()(settings)


def as_json(component: Component, overrides: list[str], results: list[Result]) -> dict[str, Any]:
    """The results as plain values."""
    return {
        "kind": component.kind,
        "name": component.name,
        "distribution": component.distribution,
        "version": component.version,
        "settings": overrides,
        "conforms": all(result.status != "failed" for result in results),
        "checks": [result._asdict() for result in results],
    }


def print_table(component: Component, overrides: list[str], results: list[Result]) -> None:
    """A line a check; below it what happened, where it failed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    origin = f"{component.distribution} {component.version}".strip()
    about = f"{spoken(component.kind)} {component.name} ({origin})"
    table = Table(title=" ".join([about, *overrides]), title_justify="left", box=None, pad_edge=False)
    for heading, justify in (("check", "left"), ("", "left"), ("s", "right"), ("law", "left")):
        table.add_column(heading, justify=justify, no_wrap=heading != "law")
    for result in results:
        state = Text(MARKS[result.status], STYLES[result.status])
        note = result.message.splitlines()[0] if result.status in ("expected", "skipped") else ""
        text = Text(result.law).append(f" [{note}]" if note else "", "dim")
        table.add_row(Text(result.name), state, f"{result.seconds:.2f}", text)
    console = Console(soft_wrap=False, highlight=False)
    console.print(table)
    for result in results:
        if result.status == "failed":
            print(f"\n{result.message}")
    counts = {status: sum(result.status == status for result in results) for status in MARKS}
    print("\n" + ", ".join(f"{count} {status}" for status, count in counts.items() if count))
