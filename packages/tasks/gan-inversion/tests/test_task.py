"""The task from the command line: from nothing to a report, a resume, samples, and every kind of bad input."""

from __future__ import annotations

import json
import re

import pytest
from goembed_core import cli
from goembed_core.config import resolve
from PIL import Image

from .conftest import TINY

METRICS = {
    "frechet_distance", "kernel_distance", "patch_psnr", "patch_psnr_refined", "pixel_std_ratio", "class_tv",
    "seconds_per_sample",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main(["train", "task=gan_inversion", f"run.dir={directory}", *TINY]) == 0
    return directory


def test_a_run_holds_what_it_promises(run):
    held = {path.name for path in run.iterdir()}
    files = {"config.yaml", "environment.json", "metrics.jsonl", "metrics.json", "report.html"}
    assert held >= files | {"checkpoints", "model", "samples"}
    results = json.loads((run / "metrics.json").read_text())
    assert results["task"] == "gan_inversion" and results["images_seen"] == 64
    assert results["metrics"].keys() >= METRICS
    assert results["baselines"].keys() == {"deterministic", "unconditional", "floor"}
    assert results["metrics"]["frechet_distance"]["n"] == 24
    assert "fashion-classifier features, 24 contexts" in results["metrics"]["frechet_distance"]["note"]
    for baseline in results["baselines"].values():
        assert {"frechet_distance", "kernel_distance", "class_tv"} <= baseline.keys()
    assert {"patch_psnr", "patch_psnr_refined"} <= results["baselines"]["deterministic"].keys()
    previews = sorted(path.name for path in (run / "samples").iterdir())
    assert previews == ["preview-000000032.png", "preview-000000064.png"]


def test_the_report_is_self_contained_and_shows_everything(run):
    page = (run / "report.html").read_text()
    for words in ("Samples", "Latent walk", "Posterior check", "Samplers", "Training", "seconds_per_sample"):
        assert words in page
    assert page.count("data:image") >= 8
    assert 'src="http' not in page and 'href="http' not in page and "url(http" not in page


def test_training_longer_goes_on_from_the_checkpoint(run, capsys):
    settings = [s if not s.startswith("train.images") else "train.images=80" for s in TINY]
    assert cli.main(["train", "task=gan_inversion", f"run.dir={run}", *settings]) == 0
    assert "resumed at 64 of 80 images" in capsys.readouterr().out
    assert json.loads((run / "metrics.json").read_text())["images_seen"] == 80


def test_evaluate_again_on_fewer_contexts(run):
    assert cli.main(["evaluate", str(run), "evaluate.contexts=10"]) == 0
    assert json.loads((run / "metrics.json").read_text())["metrics"]["patch_psnr"]["n"] == 10


def test_sample_ones_own_image(run, tmp_path):
    Image.radial_gradient("L").resize((40, 40)).save(tmp_path / "mine.png")
    out = tmp_path / "out"
    arguments = [f"image={tmp_path / 'mine.png'}", "box=4,4,12,10", "num_samples=3", f"out={out}", "refine.steps=2"]
    assert cli.main(["sample", str(run), *arguments]) == 0
    assert {path.name for path in out.iterdir()} == {
        "grid.png", "latents.safetensors", *(f"image00-sample00{i}.png" for i in range(3))
    }  # fmt: skip
    with Image.open(out / "image00-sample000.png") as picture:
        assert picture.size == (32, 32)


def test_the_moved_run_still_samples(run, tmp_path):
    moved = run.rename(run.parent / "moved")
    try:
        assert cli.main(["sample", str(moved), "num_images=1", "num_samples=2", f"out={tmp_path / 'o'}"]) == 0
    finally:
        moved.rename(run)


def fails(capsys, *arguments: str) -> str:
    """The one line of an error."""
    assert cli.main(list(arguments)) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said and "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("forward_model.weights=absent.safetensors", "no such file"),
        ("denoiser.height=64", "denoiser.height=64: the generator's images are 1 x 32 x 32 .*say denoiser.height=32"),
        ("denoiser.in_channels=7", "denoiser.in_channels=7: .*say denoiser.in_channels=3"),
        ("latent.space=w+", "denoiser.vector_dim=64: .*say denoiser.vector_dim=512"),
        ("patch.min_side=0.9", "min_side=0.9 is larger than max_side=0.5"),
        ("patch.max_side=2", "patch.max_side"),
        ("train.imges=5", "did you mean train.images"),
        ("sampler.name=euler", "sampler.name"),
        ("forward_model.name=stylgan", "did you mean 'stylegan'"),
        ("evaluate.features.name=nothing", "feature network 'nothing' is not registered"),
    ],
)
def test_bad_settings_are_refused_before_any_work(capsys, tmp_path, setting, said):
    text = fails(capsys, "train", "task=gan_inversion", f"run.dir={tmp_path / 'r'}", *TINY, setting)
    assert re.search(said, text), text
    assert not (tmp_path / "r").exists()


def test_bad_samples_are_refused(capsys, run, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (32, 32)).save(tmp_path / "ok.png")
    image = f"image={tmp_path / 'ok.png'}"
    assert "outside the image of 32 x 32" in fails(capsys, "sample", str(run), image, "box=20,0,16,8")
    assert "say which patch is visible" in fails(capsys, "sample", str(run), image)
    assert "is not of the form x,y,width,height" in fails(capsys, "sample", str(run), image, "box=1,2,3")
    assert "box='1,2,0,3' is empty" in fails(capsys, "sample", str(run), image, "box=1,2,0,3")
    assert "no such file" in fails(capsys, "sample", str(run), f"image={tmp_path / 'no.png'}", "box=0,0,8,8")
    assert "text.png" in fails(capsys, "sample", str(run), f"image={tmp_path / 'text.png'}", "box=0,0,8,8")
    assert "it has no config.yaml" in fails(capsys, "sample", str(tmp_path))


def test_a_run_of_another_task_or_without_a_model(capsys, run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text((run / "config.yaml").read_text())
    assert "model" in fails(capsys, "sample", str(other))
    (other / "config.yaml").write_text("task: nothing_of_this_name\n")
    assert "task 'nothing_of_this_name' is not registered" in fails(capsys, "sample", str(other))


def test_presets_resolve():
    paper = resolve("gan_inversion", ["preset=paper"]).config
    assert paper.optimizer.lr == 2e-5 and paper.train.batch_size == 4 and paper.truncation_psi == 0.5
    assert paper.sampler.num_steps == 50 and paper.denoiser.settings.hidden_size == 1152
    quick, embedded = (resolve("gan_inversion", [f"preset={name}"]).config for name in ("quick", "embedded"))
    assert embedded.train.images > quick.train.images
