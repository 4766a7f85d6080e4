"""The task from the command line, on balls that it fits within seconds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types

import av
import pytest
import torch
import trimesh
from goembed_core import cli
from goembed_core.metrics.results import Results
from goembed_core.plugins import hookimpl, host
from goembed_nerf_renderer.config import FieldConfig
from PIL import Image
from safetensors.torch import load_file

BOX = 'box={"low":[-0.9,-0.9,-0.9],"high":[0.9,0.9,0.9]}'
SMALL = (
    BOX, "background=dataset", "dataset.size=24", "dataset.near_far=[2.0,4.0]", "train.batch_size=512",
    "train.log_every_nimg=5120", "train.checkpoint_every_nimg=0", "forward_model.samples=24",
    "forward_model.proposal_samples=[32]", "warmup_nimg=5000", "occupancy_every_nimg=5000", "evaluate.lpips=false",
    "evaluate.turntable_frames=4",
)  # fmt: skip


def train(folder, scene, *words):
    return cli.main(["train", "task=fit_scene", f"run.dir={folder}", f"dataset.path={scene}", *SMALL, *words])


@pytest.fixture(scope="module")
def run(balls_scene, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "balls"
    assert train(folder, balls_scene, "train.images=81920", "field.cells=32") == 0
    return folder


def test_held_out_views_are_seen(run):
    results = Results.read(run / "metrics.json")
    assert results.metrics.keys() == {"psnr", "ssim", "seconds"} and results.metrics["psnr"].n == 4
    assert results.metrics["psnr"].value > 23.5 and results.metrics["ssim"].value > 0.85
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["field/occupied"] < 0.6 < log[0]["field/occupied"]  # empty space was found
    assert log[0]["field/psnr"] < 17
    page = (run / "report.html").read_text()
    for words in ("Held-out views", "Turntable", "Depth, where most light is stopped", "Training", "voxel-grid"):
        assert words in page


def test_a_turntable_has_all_frames(run):
    with av.open(str(run / "samples" / "turntable.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 4 and frames[0].shape == (48, 96, 3)
    assert abs(frames[0].astype(float) - frames[2]).mean() > 2  # the other side looks otherwise
    with Image.open(run / "samples" / "turntable.gif") as moving:
        assert moving.n_frames == 4


def test_it_is_exported(run, tmp_path, capsys):
    words = ["export=all", "frames=2", "scale=1", "mesh_cells=32", f"out={tmp_path / 'out'}"]
    assert cli.main(["sample", str(run), *words]) == 0
    assert f"samples: {tmp_path / 'out'}" in capsys.readouterr().out
    (mesh,) = trimesh.load(tmp_path / "out" / "mesh.glb").geometry.values()
    cloud = trimesh.load(tmp_path / "out" / "points.ply")
    centres = torch.tensor([[0.35, 0.0, 0.0], [-0.3, 0.3, 0.1], [-0.1, -0.4, -0.2]])
    radius = torch.tensor([0.4, 0.3, 0.25])
    low, high = (centres - radius[:, None]).amin(0), (centres + radius[:, None]).amax(0)
    assert abs(torch.tensor(mesh.bounds[0]) - low).max() < 0.1 and abs(torch.tensor(mesh.bounds[1]) - high).max() < 0.1
    off = (torch.cdist(torch.tensor(cloud.vertices).float(), centres) - radius).abs().amin(1)
    assert off.median() < 0.096  # a pixel at the balls
    nearest = torch.cdist(torch.tensor(cloud.vertices).float(), centres).argmin(1)
    colours = torch.tensor(cloud.colors[:, :3] / 255.0)
    for ball, channel in enumerate((0, 1, 2)):
        assert (colours[nearest == ball].mean(0).argmax() == channel).item()


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(run, balls_scene, tmp_path):
    for images in (5120, 10240):
        assert (
            train(
                tmp_path / "parts", balls_scene, f"train.images={images}", "field.cells=16", "optimizer.decay=constant"
            )
            == 0
        )
    assert (
        train(tmp_path / "whole", balls_scene, "train.images=10240", "field.cells=16", "optimizer.decay=constant") == 0
    )
    parts, whole = (load_file(tmp_path / name / "model" / "field.safetensors") for name in ("parts", "whole"))
    assert all(torch.equal(parts[key], whole[key]) for key in whole) and not whole["box.occupied"].all()


def test_nerf_s_network_learns_too(balls_scene, tmp_path):
    words = ["field=nerf-mlp", "field.hidden_size=32", "field.occupancy_cells=16", "field.frequencies=3"]
    assert train(tmp_path / "mlp", balls_scene, "train.images=51200", "optimizer.lr=5e-3", *words) == 0
    assert Results.read(tmp_path / "mlp" / "metrics.json").metrics["psnr"].value > 19.5


def test_fields_are_compared(balls_scene, tmp_path, capsys):
    """Two fits in one command: another field, with an optimiser of its own; each is a run of its own."""
    small = ("train.images=10240", "field.cells=16", "against.rough.field.cells=4", "against.net.field.name=nerf-mlp")
    net = ("against.net.field.hidden_size=16", "against.net.optimizer.lr=1e-3", "against.net.train.images=1024")
    few = ("against.nerf-mlp=null", "evaluate.views=2", "evaluate.pictures=1", "evaluate.turntable_frames=1")
    assert train(tmp_path / "run", balls_scene, *small, *net, *few) == 0
    results = Results.read(tmp_path / "run" / "metrics.json")
    assert results.baselines.keys() == {"rough", "net"} and results.images_seen == 10240
    assert results.metrics["psnr"].value > results.baselines["rough"]["psnr"]  # cells of a ninth of the box
    printed = capsys.readouterr().out
    assert "against net:" in printed
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(words in page for words in ("Side by side", "Held-out views by each field", "4 x 4 x 4", "nerf-mlp"))
    for name, seen in (("rough", 10240), ("net", 1024)):
        alone = Results.read(tmp_path / "run" / "against" / name / "metrics.json")
        assert alone.images_seen == seen
        assert {key: metric.value for key, metric in alone.metrics.items()} == results.baselines[name]
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert cli.main(["evaluate", str(moved), "evaluate.views=1", "evaluate.turntable_frames=1"]) == 0
    assert Results.read(moved / "metrics.json").baselines["net"]["psnr"] > 5
    assert cli.main(["sample", str(moved / "against" / "net"), "frames=1", "scale=1"]) == 0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("against.a.box=null", "against.a.box: fits are compared on one scene; they differ in field, train"),
        ("against.voxel-grid.smoothness=1", "against.voxel-grid: so the run's own fit is called"),
        ("against.a.field=voxel-gird", "against.a: field='voxel-gird': .*did you mean 'voxel-grid'"),
        ("against.a.field.cell=3", "against.a: field.cell=3: .*did you mean field.cells"),
        ("against.a.train.images=-3", "against.a: train.images"),
        ('against={"../a":{}}', "against"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(word, message, balls_scene, tmp_path, capsys):
    assert train(tmp_path / "run", balls_scene, word) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()


class PlainConfig(FieldConfig):
    """A place, as every field of a scene has."""


class Plain(torch.nn.Module):
    """A radiance field, and no more than that."""

    def __init__(self, config: PlainConfig):
        super().__init__()


@hookimpl
def goembed_register(register):
    register("radiance-field", "plain", "plain_field:Plain", config="plain_field:PlainConfig")


def test_a_field_that_cannot_be_fitted_is_refused(balls_scene, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plain_field", module := types.ModuleType("plain_field"))
    module.Plain, module.PlainConfig, module.goembed_register = Plain, PlainConfig, goembed_register
    try:
        host().register_module(module, "plain")
        assert train(tmp_path / "run", balls_scene, "field=plain") == 2
    finally:
        host.cache_clear()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == (
        "error: field.name='plain': expected a radiance field with box, proposal, find_empty, variation; this one has "
        "none of them"
    )
    assert not (tmp_path / "run").exists()


def test_the_section_of_missing_scenes_is_told(tmp_path, capsys):
    assert train(tmp_path / "run", tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.startswith(f"error: dataset: {tmp_path / 'nowhere'}: no such file or folder; ")


def test_it_can_be_judged_again(run):
    assert cli.main(["evaluate", str(run), "evaluate.views=2", "evaluate.turntable_frames=2"]) == 0
    assert Results.read(run / "metrics.json").metrics["psnr"].n == 2


def test_it_carries_no_model(capsys):
    assert cli.main(["sample", "task=fit_scene"]) == 2
    assert "carries no model: give the folder of a run" in capsys.readouterr().err


def test_settings_come_without_torch():
    code = (
        "import sys; from goembed_core.config import resolve; from goembed_fit_scene.config import PRESETS\n"
        "[resolve('fit_scene', [f'preset={name}']) for name in PRESETS]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
