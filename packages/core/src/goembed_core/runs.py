"""A run directory: self-contained, movable, and the same command on it goes on where it stopped.

runs/<task>/<name>/
    config.yaml, environment.json       what was asked for, and what made it
    metrics.jsonl, metrics.json         the log of training, and the figures of the evaluation
    checkpoints/, model/                what a resume needs, and what sampling needs
    samples/, report.html               pictures
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from goembed_core.config import TaskConfig, dump_yaml
from goembed_core.config.resolve import suggest_run
from goembed_core.config.yaml import load_yaml
from goembed_core.errors import UserError
from goembed_core.files import remove_incomplete, write_atomically
from goembed_core.plugins import host

# What may change between two sessions of one run: how long, where and how it is watched; never what is computed.
FREE_KEYS = (
    "run",
    "evaluate",
    "preset",
    "train.images",
    "train.threads",
    "train.trackers",
    "train.micro_batch_size",
    "train.mixed_precision",
    "train.keep_checkpoints",
    "train.on_nonfinite",
    "train.log_every_nimg",
    "train.preview_every_nimg",
    "train.checkpoint_every_nimg",
    "train.evaluate_every_nimg",
)


class Run:
    """One run's directory."""

    def __init__(self, directory: Path, config: dict[str, Any]):
        self.dir = directory
        self.config = config

    @classmethod
    def start(cls, config: TaskConfig, main_process: bool = True) -> Run:
        """Make the run directory of a resolved config, or go on in one that was made by the same config."""
        directory = config.run_dir
        values = load_yaml(dump_yaml(config))
        if (directory / "config.yaml").exists():
            run = cls.open(directory)
            _require_same(directory, run.config, values)
        elif directory.exists() and not directory.is_dir():
            raise UserError(f"run.dir={directory} is no folder; choose another run.dir")
        elif directory.exists() and any(directory.iterdir()):
            raise UserError(f"run.dir={directory} exists, is not empty, and holds no run; choose another run.dir")
        run = cls(directory, values)
        if main_process:
            run._write_identity(dump_yaml(config))
        return run

    @classmethod
    def open(cls, directory: Path, task: str | None = None) -> Run:
        """Open an existing run directory, of `task` if given."""
        path = directory / "config.yaml"
        if not path.is_file():
            raise UserError(f"{directory} is not a run directory: it has no config.yaml{suggest_run(directory)}")
        try:
            config = load_yaml(path.read_text())
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(config, dict) or "task" not in config:
            raise UserError(f"{path} does not name a task; it was not written by goembed, or by a version before 0.1")
        if task is not None and config["task"] != task:
            raise UserError(f"{directory} is a run of task {config['task']!r}, not of {task!r}")
        return cls(directory, config)

    def _write_identity(self, config_yaml: str) -> None:
        try:
            for folder in (self.dir, self.samples, self.dir / "checkpoints"):
                folder.mkdir(parents=True, exist_ok=True)
                remove_incomplete(folder)
            write_atomically(self.dir / "config.yaml", config_yaml)
            write_atomically(self.dir / "environment.json", json.dumps(environment(), indent=1))
        except OSError as error:
            raise UserError(f"run.dir={self.dir} cannot be written: {error.strerror or error}") from None

    @property
    def samples(self) -> Path:
        """Where pictures go."""
        return self.dir / "samples"

    @property
    def model(self) -> Path:
        """The trained model, as `save_pretrained` writes it."""
        return self.dir / "model"

    def require_model(self) -> None:
        """UserError, with the command that goes on, where the training has not ended with a model."""
        if not self.model.is_dir():
            raise UserError(f"{self.dir} has no model yet, as its training has not ended; go on with: {self.command()}")

    def environment(self) -> dict[str, Any]:
        """What made the run, as `environment.json` has it."""
        path = self.dir / "environment.json"
        try:
            found = json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; to write it anew: {self.command()}") from None
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); to write it anew: {self.command()}") from None
        if not isinstance(found, dict) or "command" not in found:
            raise UserError(f"{path} names no command; to write it anew: {self.command()}")
        return found

    @property
    def metrics_log(self) -> Path:
        """One JSON object a line: the log of training."""
        return self.dir / "metrics.jsonl"

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add one line to the log of training."""
        with open(self.metrics_log, "a") as file:
            file.write(json.dumps(values) + "\n")

    def truncate_metrics(self, images: int) -> None:
        """Drop the log's lines past the images that a resumed run starts from."""
        if not self.metrics_log.exists():
            return
        kept = []
        for line in self.metrics_log.read_text().splitlines():
            try:
                keep = json.loads(line)["images"] <= images
            except (ValueError, LookupError, TypeError):  # the line that an interrupted writer did not finish
                keep = False
            if keep and images:
                kept.append(line + "\n")
        write_atomically(self.metrics_log, "".join(kept))

    def command(self) -> str:
        """The command that goes on with this run."""
        words = (f"task={self.config['task']}", f"run.dir={self.dir}", f"config={self.dir / 'config.yaml'}")
        return f"goembed train {shlex.join(words)}"


def environment() -> dict[str, Any]:
    """What made a run: the command, versions and machine."""
    plugins = {record.distribution: record.version for record in host().records if record.status == "ok"}
    packages = ("torch", "diffusers", "accelerate", "numpy")
    return {
        "command": shlex.join(["goembed" if Path(sys.argv[0]).name == "goembed" else sys.argv[0], *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "packages": {name: version(name) for name in packages},
        "plugins": plugins,
    }


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _require_same(directory: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = _flatten(old), _flatten(new)
    differing = [
        f"{key} is {before.get(key, 'absent')!r} there and {after.get(key, 'absent')!r} here"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
        and not any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)
    ]
    if differing:
        raise UserError(
            f"{directory} holds another run: {'; '.join(differing)}. Choose another run.dir or run.name, "
            "or the same values"
        )
