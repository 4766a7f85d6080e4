"""The task from the command line, made tiny."""

from __future__ import annotations

import json

import numpy as np
import pytest
from goembed_core import cli
from goembed_motion.flow import read_flo
from PIL import Image

TINY = (
    "train.mixed_precision=no", "train.images=64", "train.batch_size=16", "train.log_every_nimg=32",
    "train.preview_every_nimg=64",
    "sampler.num_steps=2", "evaluate.contexts=3", "evaluate.samples=16", "evaluate.steps=[2]",
    "evaluate.steps_contexts=2", "evaluate.pictures=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, small):
    """A finished run."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main(["train", "task=motion", f"run.dir={directory}", *small, *TINY]) == 0
    return directory


def test_missing_weights_of_a_figure_are_told_of_before_training(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setenv("GOEMBED_LPIPS_WEIGHTS", str(tmp_path / "none.safetensors"))
    directory = tmp_path / "run"
    told = ["train", "task=motion", f"run.dir={directory}", *small, *TINY, "evaluate.lpips=true"]
    assert cli.main(told) == 2 and "none.safetensors" in capsys.readouterr().err
    assert not (directory / "checkpoints").exists() and not (directory / "metrics.jsonl").exists()


def test_a_run_ends_with_figures_and_a_report(run):
    results = json.loads((run / "metrics.json").read_text())
    named = {
        "mode_frequency_error",
        "best_of_16_epe_ratio",
        "baseline_motion_ratio",
        "baseline_speed_ratio",
        "nearest_psnr",
    }
    assert results["metrics"].keys() >= named and results["images_seen"] == 64
    assert results["baselines"].keys() == {"deterministic", "no_motion", "exact"}
    page = (run / "report.html").read_text()
    for words in ("Futures of one image", "as arrows", "Clips", "Samplers", "Training", "data:image/gif"):
        assert words in page
    assert (run / "samples/preview-000000064.png").stat().st_size > 1000


def test_samples_of_ones_own_image_are_flows_frames_and_videos(run, tmp_path):
    image, out = tmp_path / "mine.png", tmp_path / "out"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(image)
    settings = ["num_samples=2", "num_frames=3", "sampler.num_steps=2", f"out={out}"]
    assert cli.main(["sample", str(run), f"image={image}", *settings]) == 0
    names = {path.name for path in out.iterdir()}
    frames = {f"image00-sample00{k}-frame00{i}.png" for k in range(2) for i in range(3)}
    assert names == frames | {
        "grid.png",
        "image00.mp4",
        "image00.gif",
        "image00-sample000.flo",
        "image00-sample001.flo",
    }
    assert read_flo(out / "image00-sample000.flo").shape == (2, 16, 16)
    first = np.asarray(Image.open(out / "image00-sample000-frame000.png"))
    assert (first == np.asarray(Image.open(out / "image00-sample001-frame000.png"))).all()  # time 0 is the image


def test_samples_of_unseen_clips(run, tmp_path):
    assert cli.main(["sample", str(run), "num_images=2", "num_samples=1", "num_frames=2", f"out={tmp_path}"]) == 0
    assert {"image00.mp4", "image01.mp4"} <= {path.name for path in tmp_path.iterdir()}


def test_errors_say_what_to_do(run, capsys, tmp_path):
    assert cli.main(["sample", str(run), f"image={tmp_path / 'none.png'}"]) == 2
    assert "none.png" in capsys.readouterr().err
    assert cli.main(["sample", "task=motion"]) == 2
    assert "train one" in capsys.readouterr().err


def test_films_are_trained_on_and_judged_on_their_unseen_ends(tmp_path, small):
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (16, 60, 3), np.uint8)
    for name in ("a", "b"):
        (tmp_path / "films" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(texture[:, i : i + 16]).save(tmp_path / "films" / name / f"{i:03d}.png")
    network = [s for s in small if not s.startswith("dataset.")]
    films = ["dataset.name=videos", f"dataset.path={tmp_path / 'films'}", "dataset.size=16", "dataset.holdout_clips=0",
             "dataset.holdout_time=0.5", "dataset.window_frames=3"]  # fmt: skip
    assert cli.main(["train", "task=motion", f"run.dir={tmp_path / 'r'}", *network, *TINY, *films]) == 0
    results = json.loads((tmp_path / "r/metrics.json").read_text())
    assert "mode_frequency_error" not in results["metrics"] and results["metrics"]["best_of_16_psnr"]["n"] == 3
    assert results["baselines"].keys() == {"deterministic", "no_motion"}
