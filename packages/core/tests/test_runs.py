"""Run directories: what they hold, what may differ on a resume, and what is refused."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from accelerate.utils import LoggerType
from goembed_core.config import TaskConfig
from goembed_core.config.models import Tracker
from goembed_core.errors import UserError
from goembed_core.runs import Run


def config(directory, **train) -> TaskConfig:
    return TaskConfig(task="t", run={"dir": directory}, train=train)


def test_a_run_is_made_and_gone_on_with(tmp_path):
    run = Run.start(config(tmp_path / "r"))
    environment = json.loads((run.dir / "environment.json").read_text())
    assert {"command", "started", "python", "packages", "plugins"} <= environment.keys()
    assert run.samples.is_dir() and Run.open(run.dir).config["task"] == "t"
    again = Run.start(config(tmp_path / "r", images=5, threads=1))
    assert again.config["train"]["images"] == 5
    assert run.command().startswith("goembed train task=t run.dir=")


def test_a_run_of_other_settings_is_refused_and_kept(tmp_path):
    Run.start(config(tmp_path / "r", batch_size=8))
    before = (tmp_path / "r" / "config.yaml").read_text()
    with pytest.raises(
        UserError, match=r"holds another run: train.batch_size is 8 there and 16 here. Choose another run.dir"
    ):
        Run.start(config(tmp_path / "r", batch_size=16))
    assert (tmp_path / "r" / "config.yaml").read_text() == before


def test_only_the_main_process_writes(tmp_path):
    Run.start(config(tmp_path / "r"), main_process=False)
    assert not (tmp_path / "r").exists()


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("x")
    with pytest.raises(UserError, match=r"exists, is not empty, and holds no run; choose another run\.dir"):
        Run.start(config(tmp_path / "photos"))
    with pytest.raises(UserError, match=r"run\.dir=.*cat\.png is no folder; choose another run\.dir"):
        Run.start(config(tmp_path / "photos" / "cat.png"))
    Run.start(config(tmp_path / "default"))
    with pytest.raises(UserError, match=r"is not a run directory: it has no config.yaml; did you mean .*default\?"):
        Run.open(tmp_path / "defualt")
    with pytest.raises(UserError, match="is a run of task 't', not of 'other'"):
        Run.open(tmp_path / "default", task="other")
    for text, said in {"a: [": "is not valid YAML", "a: 1": "does not name a task"}.items():
        (tmp_path / "default" / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=said):
            Run.open(tmp_path / "default")


def test_a_run_without_a_model_says_how_to_go_on(tmp_path):
    run = Run.start(config(tmp_path / "r"))
    with pytest.raises(
        UserError, match=r"r has no model yet, .*; go on with: goembed train task=t run\.dir=.*/r config="
    ):
        run.require_model()
    run.model.mkdir()
    run.require_model()


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "No such file"), ("{", "is damaged"), ("[]", "names no command"), ("{}", "names no command")],
)
def test_what_made_a_run_is_read_or_told(tmp_path, text, said):
    run = Run.start(config(tmp_path / "r"))
    assert "pytest" in run.environment()["command"]
    (run.dir / "environment.json").unlink()
    if text is not None:
        (run.dir / "environment.json").write_text(text)
    with pytest.raises(UserError, match=rf"environment\.json.* {said}.*; to write it anew: goembed train task=t"):
        run.environment()


def test_no_write_access(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        Run.start(config(tmp_path / "file" / "r"))


def test_the_log_is_cut_to_where_a_resume_starts(tmp_path):
    run = Run.start(config(tmp_path / "r"))
    for images in (10, 20, 30):
        run.append_metrics({"images": images, "loss": 1.0})
    with open(run.metrics_log, "a") as file:
        file.write("[1]\n3\n" + '{"images": 40, "lo')  # no lines of a log, and what a killed process leaves
    run.truncate_metrics(20)
    assert [json.loads(line)["images"] for line in run.metrics_log.read_text().splitlines()] == [10, 20]
    run.truncate_metrics(0)
    assert run.metrics_log.read_text() == ""


def test_the_names_of_trackers_are_accelerates():
    assert set(get_args(Tracker)) == {kind.value for kind in LoggerType}
