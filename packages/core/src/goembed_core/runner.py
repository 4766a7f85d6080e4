"""The heavy half of the command line: what `train`, `sample` and `evaluate` do once their settings are checked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from goembed_core.allocation import keep_freed_memory
from goembed_core.config import ConfigError, Resolved, resolve_evaluation, resolve_model
from goembed_core.metrics.results import Results
from goembed_core.plugins import Component, host
from goembed_core.processes import process_state
from goembed_core.progress import duration
from goembed_core.runs import Run


def train(resolved: Resolved) -> None:
    """Train, evaluate, report; the same command on the same run goes on where it stopped."""
    keep_freed_memory()
    config, began = resolved.config, time.monotonic()
    task = resolved.component.load()(config)
    state = process_state()
    with state.main_process_first():  # so that the others find a whole run, not one that is being made
        run = Run.start(config, state.is_main_process)
    task.train(run)
    if state.is_main_process:
        _finish(run, task.evaluate(run), time.monotonic() - began)
    state.wait_for_everyone()
    state.destroy_process_group()  # whose threads, left running, now and then abort a process that exits


def evaluate(directory: Path, overrides: Sequence[str]) -> None:
    """Judge the model of a run again; only settings under `evaluate` and `sampler` may differ from the run's own."""
    keep_freed_memory()
    run = Run.open(directory)
    run.require_model()
    run.environment()  # stands in the report: what is wrong with it is told before the work
    began = time.monotonic()
    resolved = resolve_evaluation(directory, overrides)
    _finish(run, resolved.component.load()(resolved.config).evaluate(run), time.monotonic() - began)


def sample(directory: Path | None, task: str | None, overrides: Sequence[str]) -> Path:
    """Sample from a run, or from the model that a task carries."""
    keep_freed_memory()
    run = Run.open(directory) if directory is not None else None
    if run is not None:
        run.require_model()
    component: Component = host().get("task", run.config["task"] if run else task)
    model = component.load_sample_config()
    if model is None:
        raise ConfigError(f"task {component.name!r} cannot be sampled from")
    config = resolve_model(model, overrides).config
    folder = component.load().sample(run, config)
    print(f"samples: {folder}")
    return folder


def _finish(run: Run, results: Results, seconds: float) -> None:
    results.write(run.dir / "metrics.json")
    console = Console()
    console = console if console.is_terminal else Console(width=120)  # a pipe has no width
    console.print(results.table())
    print(f"report:  {run.dir / 'report.html'}")
    print(f"figures: {run.dir / 'metrics.json'}")
    if host().get("task", run.config["task"]).load_sample_config() is not None:
        print(f"sample:  goembed sample {run.dir}")
    print(f"took {duration(seconds)}; to train on: {run.command()} train.images=…")
