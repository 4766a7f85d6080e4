"""A run that was moved, renamed or copied goes on as if it were where it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core import cli
from goembed_core.checkpoints import CheckpointFolder
from PIL import Image
from safetensors.torch import load_file

MEASURED = ("seconds", "images_per_second", "memory_mib")
STYLEGAN = (
    "task=stylegan2", "preset=fashion32", "dataset.path=photos", "dataset.resolution=8", "generator.resolution=8",
    "generator.channel_base=64", "generator.channel_max=8", "generator.z_dim=4", "generator.w_dim=4",
    "generator.mapping_layers=2", "discriminator.channel_base=64", "discriminator.channel_max=8",
    "train.batch_size=8", "train.log_every_nimg=8", "train.checkpoint_every_nimg=16", "train.mixed_precision=no",
    "train.threads=1", "evaluate.images=8", "evaluate.intervals=0",
)  # fmt: skip


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with a few pictures, named by a relative path."""
    folder = tmp_path / "work"
    (folder / "photos").mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(16):
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / "photos" / f"{index}.png")
    monkeypatch.chdir(folder)
    return folder


def command(*words: object, status: int = 0) -> None:
    assert cli.main([str(word) for word in words]) == status


def go_on(run: Path) -> dict[str, object]:
    """Judge a run, sample from it, train it on, and judge that; all that came of it."""
    found: dict[str, object] = {}
    command("evaluate", run, "evaluate.images=9")
    found["judged"] = (run / "metrics.json").read_bytes()
    command("sample", run, "rows=1", "columns=3", "seed=5")
    found["sampled"] = (run / "samples" / "grid-seed-5.png").read_bytes()
    command("train", *STYLEGAN, f"run.dir={run}", "train.images=48")
    found["judged again"] = (run / "metrics.json").read_bytes()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["log"] = [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]
    return found


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """The model's, and those of the newest checkpoint."""
    checkpoint = CheckpointFolder(run / "checkpoints").newest(print)
    groups = checkpoint.groups | {"trained": load_file(run / "model" / "generator.safetensors")}
    return {f"{group}/{name}": value for group, part in groups.items() for name, value in part.items()}


def test_a_moved_run_goes_on_bit_for_bit(work, tmp_path, capsys):
    home = tmp_path / "home" / "run"
    command("train", *STYLEGAN, f"run.dir={home}", "train.images=32")
    other = shutil.copytree(home, tmp_path / "copied")
    expected, weights = go_on(home), tensors(home)
    shutil.rmtree(home.parent)

    moved = tmp_path / "ánother disk" / "run=2"
    moved.parent.mkdir()
    other.rename(moved)
    capsys.readouterr()
    found = go_on(moved)
    assert "resumed at 32 of 48 images" in capsys.readouterr().out
    for name, value in expected.items():
        assert found[name] == value, name
    own = tensors(moved)
    assert own.keys() == weights.keys() and all(torch.equal(own[name], weights[name]) for name in own)
    assert not home.parent.exists() and {path.name for path in work.iterdir()} == {"photos"}


def test_data_are_looked_for_from_where_the_command_is_given(work, tmp_path, monkeypatch, capsys):
    """Sampling needs the run alone; the rest needs the pictures too, by a path from the working directory."""
    run = tmp_path / "run"
    command("train", *STYLEGAN, f"run.dir={run}", "train.images=8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    command("sample", run, "rows=1", "columns=1")
    capsys.readouterr()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for words in (("evaluate", run), ("train", *STYLEGAN, f"run.dir={run}", "train.images=16")):
        command(*words, status=2)
        assert capsys.readouterr().err == (
            f"error: dataset: photos (in {elsewhere}): no such file or folder; give `path` a folder, a zip, an npz or "
            "an IDX file of images\n"
        )
    command("train", *STYLEGAN, f"run.dir={run}", "train.images=16", f"dataset.path={work / 'photos'}", status=2)
    assert f"dataset.path is 'photos' there and '{work / 'photos'}' here" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (elsewhere / "photos").symlink_to(work / "photos")
    command("evaluate", run)
    (elsewhere / "photos").unlink()
    file = run / "config.yaml"  # the other way that the README of core names
    file.write_text(file.read_text().replace("path: photos", f"path: {work / 'photos'}"))
    command("train", *STYLEGAN, f"run.dir={run}", "train.images=16", f"dataset.path={work / 'photos'}")
    assert "resumed at 8 of 16 images" in capsys.readouterr().out
