"""The task from the command line, made tiny."""

from __future__ import annotations

import json

import av
import pytest
import torch
import trimesh
from goembed_core import cli
from goembed_core.runs import Run
from goembed_inverse_graphics import model as models
from goembed_inverse_graphics.viewing import viewables
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.viewing import look
from PIL import Image

TINY = (
    "train.images=32", "train.batch_size=8", "train.log_every_nimg=16", "train.preview_every_nimg=32",
    "sampler.num_steps=2", "evaluate.contexts=3", "evaluate.samples=2", "evaluate.frequency_samples=4",
    "evaluate.scenes=2", "evaluate.views=4", "evaluate.lpips=false", "evaluate.pictures=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, small):
    """A finished run."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    assert cli.main(["train", "task=inverse_graphics", f"run.dir={directory}", *small, *TINY]) == 0
    return directory


def test_missing_weights_of_a_figure_are_told_of_before_training(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setenv("GOEMBED_LPIPS_WEIGHTS", str(tmp_path / "none.safetensors"))
    directory = tmp_path / "run"
    told = ["train", "task=inverse_graphics", f"run.dir={directory}", *small, *TINY, "evaluate.lpips=true"]
    assert cli.main(told) == 2 and "none.safetensors" in capsys.readouterr().err
    assert not (directory / "checkpoints").exists() and not (directory / "metrics.jsonl").exists()


def test_a_run_ends_with_figures_and_a_report(run):
    results = json.loads((run / "metrics.json").read_text())
    figures = {"hidden_colour_frequency_error", "scene_consistency", "visible_psnr", "psnr", "seconds_per_scene"}
    assert results["metrics"].keys() >= figures and results["images_seen"] == 32
    assert results["baselines"].keys() == {"pixelnerf", "exact"}
    assert results["baselines"]["pixelnerf"].keys() >= {"psnr", "visible_psnr", "average_colour_distance"}
    assert results["baselines"]["exact"]["hidden_colour_frequency_error"] == 0.1875  # of four draws
    page = (run / "report.html").read_text()
    for words in ("The far side", "All around", "Depth", "Turntables", "Training", "data:image/gif"):
        assert words in page
    assert (run / "samples/preview-000000032.png").stat().st_size > 1000


def test_dfm_is_every_so_manieth_step_and_the_estimate_is_trained_in_all(small, tmp_path):
    settings = ["dfm_every=3", "train.log_every_nimg=8", "train.preview_every_nimg=0", "evaluate.pictures=1"]
    assert cli.main(["train", "task=inverse_graphics", f"run.dir={tmp_path}", *small, *TINY, *settings]) == 0
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["images"], "dfm/target" in row, "pixelnerf/estimate" in row) for row in rows] == [
        (8, True, True), (16, False, True), (24, False, True), (32, True, True)
    ]  # fmt: skip


def test_samples_are_videos_points_and_meshes(run, tmp_path):
    settings = ["item=1", "num_samples=2", "frames=3", "scale=1", "sampler.num_steps=2", "opacity=0.05", "num_views=2"]
    assert cli.main(["sample", str(run), *settings, "mesh_cells=8", f"out={tmp_path}"]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    each = {f"sample0{k}.{end}" for k in range(2) for end in ("mp4", "gif", "ply", "glb")}
    assert names == each | {"grid.png", "pixelnerf.mp4", "pixelnerf.gif"}
    with av.open(str(tmp_path / "sample00.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3
    with Image.open(tmp_path / "sample01.gif") as picture:
        assert picture.n_frames == 3
    cloud = trimesh.load(tmp_path / "sample00.ply")
    assert len(cloud.vertices) > 10 and abs(cloud.vertices).max() < 1.2
    mesh = trimesh.load(tmp_path / "sample00.glb", force="mesh")
    assert len(mesh.faces) > 10 and abs(mesh.vertices).max() < 1.2


def test_sampled_scenes_can_be_viewed(run):
    shown = viewables(Run.open(run))
    assert [scene.name for scene in shown] == ["sample 1", "sample 2", "sample 3", "sample 4", "pixelNeRF"]
    dataset = models.held_out(models.load(run / "model").dataset).build()
    colours = []
    for scene in shown:
        height, width = scene.images.shape[2:]
        assert torch.allclose(scene.images, dataset.observations(torch.tensor([0])).values[0])
        assert scene.size == (width, height) and len(scene.views.intrinsics) == len(scene.images)
        picture = look(scene, Camera(*(leaf[0] for leaf in scene.views)), height, width)
        assert picture.colour.shape == (height, width, 3) and picture.colour.isfinite().all()
        assert scene.distance == pytest.approx(4.0, abs=0.5)
        colours.append(picture.colour)
    assert not torch.equal(colours[0], colours[1])


def test_errors_say_what_to_do(run, capsys, tmp_path):
    assert cli.main(["sample", "task=inverse_graphics"]) == 2
    assert "train one" in capsys.readouterr().err
    assert cli.main(["sample", str(run), "item=99999999", f"out={tmp_path}"]) == 2
    assert "item=99999999: the test split has scenes 0 to" in capsys.readouterr().err
    assert cli.main(["train", "task=inverse_graphics", "preset=furniture", f"run.dir={tmp_path / 'r'}"]) == 2
    assert "goembed render-meshes furniture out=furniture64" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("preset", ["quick", "furniture32", "furniture", "aircraft", "co3d", "realestate10k"])
def test_presets_are_sound(preset):
    """Their settings fit each other; networks of the published size are built without memory."""
    from goembed_core.config import resolve
    from goembed_inverse_graphics.model import placed_denoiser

    config = resolve("inverse_graphics", [f"preset={preset}"]).config
    section = placed_denoiser(config)
    with torch.device("meta"):
        denoiser = section.build()
    parameters = sum(p.numel() for p in denoiser.parameters())
    assert parameters > (1e9 if preset in ("co3d", "realestate10k") else 1e5)
