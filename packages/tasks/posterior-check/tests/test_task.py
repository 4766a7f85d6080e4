"""The task from the command line, made tiny."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
from goembed_core import cli

TINY = (
    "mixture.hidden_size=32", "mixture.depth=1", "gaussian.hidden_size=32", "gaussian.depth=1", "train.images=4096",
    "train.batch_size=256", "train.log_every_nimg=1024", "sampler.num_steps=3", "evaluate.contexts=4",
    "evaluate.samples=200", "evaluate.coverage_contexts=30", "evaluate.coverage_samples=10",
    "evaluate.study_contexts=2", "evaluate.study_samples=10", "evaluate.steps=[2,3]",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main(["train", "task=posterior_check", f"run.dir={directory}", *TINY]) == 0
    assert "figures: " in said.getvalue() and "goembed sample" not in said.getvalue()  # it has no samples
    return directory


def test_a_run_ends_with_figures_and_a_report(run):
    results = json.loads((run / "metrics.json").read_text())
    assert results["metrics"].keys() >= {"w1_over_std", "w1_over_std_max", "coverage_error", "sliced_w_over_std"}
    assert results["baselines"].keys() == {"floor", "deterministic", "single_target"}
    for name in ("floor", "deterministic"):
        assert results["baselines"][name].keys() >= {"w1_over_std", "w1_over_std_max", "coverage_error"}
    page = (run / "report.html").read_text()
    for words in ("The unseen coordinate", "Calibration", "Samplers", "Training"):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_exact_samples_are_at_the_floor_and_an_untrained_network_is_not(run):
    results = json.loads((run / "metrics.json").read_text())
    floor = results["baselines"]["floor"]
    assert floor["w1_over_std"] < 0.4 < results["metrics"]["w1_over_std"]["value"]
    assert results["baselines"]["deterministic"]["coverage_error"] > 0.3


def test_it_can_be_judged_again(run):
    assert cli.main(["evaluate", str(run), "evaluate.steps=[]", "evaluate.contexts=3"]) == 0
    assert json.loads((run / "metrics.json").read_text())["metrics"]["w1_over_std"]["n"] == 3
    assert cli.main(["evaluate", str(run), "evaluate.steps=[]", "evaluate.contexts=3", "sampler.num_steps=2"]) == 0
    assert json.loads((run / "metrics.json").read_text())["metrics"]["w1_over_std"]["note"].endswith("-2")


def test_signals_of_another_size_are_refused(capsys, tmp_path):
    assert cli.main(["train", "task=posterior_check", f"run.dir={tmp_path / 'r'}", "mixture.dim=3"]) == 2
    assert "mixture.dim=3: the signals of this problem have 2 numbers" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_noise_levels_of_another_schedule_are_refused(capsys, tmp_path):
    assert cli.main(["train", "task=posterior_check", f"run.dir={tmp_path / 'r'}", "schedule.num_timesteps=500"]) == 2
    assert "mixture.schedule is squaredcos_cap_v2 of 1000 times, and schedule is" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_it_says_that_it_cannot_be_sampled_from(capsys, run):
    assert cli.main(["sample", str(run)]) == 2
    assert "cannot be sampled from" in capsys.readouterr().err
