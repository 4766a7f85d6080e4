"""The frame of a run's report: what stands around the task's own blocks, and when it is written."""

from __future__ import annotations

import html
import re

import pytest
from goembed_core.config import TaskConfig
from goembed_core.errors import UserError
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.report import run_report
from goembed_core.runs import Run

RESULTS = Results("t", 64, {"error": MetricValue(0.25, False, 4)})


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.start(TaskConfig(task="t", run={"dir": tmp_path / "r"}))


def page(run: Run) -> str:
    body = (run.dir / "report.html").read_text().partition("<body")[2]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


def test_the_blocks_of_a_task_stand_between_figures_and_curves(run):
    for images in (32, 64):
        run.append_metrics({"images": images, "loss": 1.0 / images})
    times = {"training_s": 75.0, "evaluation_s": {"samples": 3.0}}
    with run_report(run, RESULTS, "A title", "64 clips seen", seen="clips", **times) as report:
        report.section("Pictures", "Of the task.")
    words = [
        "A title", "64 clips seen", run.environment()["command"], "0.25", "Of the task.",
        "Losses and rates over clips seen", "times.training", "1:15", "times.evaluation: samples", "0:03",
    ]  # fmt: skip
    text = page(run)
    for word in words:  # each after the one before
        assert word in text
        text = text.partition(word)[2]


def test_without_a_log_there_are_no_curves(run):
    with run_report(run, RESULTS, "A title", "nothing seen"):
        pass
    assert "Losses" not in page(run) and "times" not in page(run)


def test_nothing_is_written_where_a_task_fails(run):
    with pytest.raises(ZeroDivisionError), run_report(run, RESULTS, "A title", ""):
        raise ZeroDivisionError
    (run.dir / "environment.json").unlink()
    with pytest.raises(UserError, match=r"environment\.json: No such file"), run_report(run, RESULTS, "A title", ""):
        pytest.fail("the block is not entered")
    assert not (run.dir / "report.html").exists()
