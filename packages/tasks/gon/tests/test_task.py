"""The task from the command line, made tiny, on images of its own."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from goembed_core import cli


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Bright squares on black: 128 to learn, 64 to be judged by."""
    generator = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 128), ("test", 64)):
        pixels = np.zeros((count, 32, 32), np.uint8)
        for image, (row, column) in zip(pixels, generator.integers(2, 18, (count, 2)), strict=True):
            image[row : row + 12, column : column + 12] = 255
        arrays |= {f"{name}_images": pixels, f"{name}_labels": np.zeros(count, np.int64)}
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    np.savez(path, **arrays)
    return path


def tiny(images, directory, *more):
    return [
        "task=gon", f"dataset.path={images}", f"test_dataset.path={images}", f"run.dir={directory}",
        "decoder.latent=6", "train.images=256", "train.batch_size=32", "train.log_every_nimg=64",
        "train.checkpoint_every_nimg=128", "evaluate.images=64", "evaluate.fitted=100", "evaluate.intervals=20", *more,
    ]  # fmt: skip


PRESETS = {
    "quick": ["decoder.width=4"],
    "multistep": ["decoder.width=4"],
    "variational": ["decoder.width=4"],
    "implicit": ["decoder.hidden_size=8", "decoder.depth=2"],
}


@pytest.mark.parametrize(
    "preset", ["quick", "variational", "implicit", pytest.param("multistep", marks=pytest.mark.slow)]
)
def test_each_preset_ends_with_figures_and_a_report(images, tmp_path, preset):
    directory = tmp_path / preset
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["train", *tiny(images, directory, f"preset={preset}", *PRESETS[preset])]) == 0
        assert cli.main(["sample", str(directory), "num_samples=5"]) == 0
    results = json.loads((directory / "metrics.json").read_text())
    assert results["metrics"].keys() == results["baselines"]["autoencoder"].keys() == {"mse", "psnr", "parameters"}
    sizes = results["metrics"]["parameters"]["value"], results["baselines"]["autoencoder"]["parameters"]
    assert sizes[1] > 1.9 * sizes[0]
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    first = "cross_entropy" if preset == "variational" else "squared_error"
    for name in ("gon", "autoencoder"):
        assert lines[-1][f"{name}/{first}"] < lines[0][f"{name}/{first}"]
    page = (directory / "report.html").read_text()
    for words in ("Reconstructions", "Samples", "Interpolations", "Training"):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (directory / "samples" / "samples.png").stat().st_size > 1000


def test_images_of_another_size_are_refused(images, tmp_path, capsys):
    assert cli.main(["train", *tiny(images, tmp_path / "r", "dataset.resolution=16")]) == 2
    said = capsys.readouterr().err
    assert "dataset has images of (channels, height, width) = (1, 16, 16), and decoder makes (1, 32, 32)" in said
    assert not (tmp_path / "r").exists()


def test_it_carries_no_model(capsys):
    assert cli.main(["sample", "task=gon"]) == 2
    assert "task=gon carries no model: give the folder of a run" in capsys.readouterr().err
