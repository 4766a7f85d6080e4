"""The frame that the report of every run has; what lies in it is the task's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from goembed_core.metrics.results import Results
from goembed_core.progress import duration
from goembed_core.report.builder import Report
from goembed_core.runs import Run


@contextmanager
def run_report(
    run: Run,
    results: Results,
    title: str,
    subtitle: str,
    *,
    seen: str = "images",
    training_s: float | None = None,
    evaluation_s: Mapping[str, float] | None = None,
) -> Iterator[Report]:
    """The run's `report.html`: command and figures, what the block adds, then curves, environment and times.

    It is written once the block has ended well.

    **Arguments:**
    - `seen`: what is counted as `images_seen`.
    - `training_s`, `evaluation_s`: how long the training took, and each part of the evaluation.

    **Raises:** UserError where what made the run cannot be read.
    """
    environment = run.environment()
    report = Report(title, subtitle)
    report.command(environment["command"])
    report.metrics(results)
    yield report
    if run.metrics_log.exists():
        report.section("Training")
        report.curves(run.metrics_log, f"Losses and rates over {seen} seen")
    times = {} if training_s is None else {"training": duration(training_s)}
    times |= {f"evaluation: {name}": duration(seconds) for name, seconds in (evaluation_s or {}).items()}
    report.environment({**environment, "times": times} if times else environment)
    report.write(run.dir / "report.html")
