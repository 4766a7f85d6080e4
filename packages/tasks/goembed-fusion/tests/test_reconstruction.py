"""Reconstruction from the command line, made tiny."""

from __future__ import annotations

import json

import pytest
from goembed_core import cli
from goembed_core.runs import Run
from goembed_fusion import methods as models
from goembed_fusion import viewing

TASK = "sparse_view_reconstruction"


def tiny(objects, directory, *more):
    return [
        f"task={TASK}", f"dataset.path={objects}", "dataset.size=12", "dataset.packed=false",
        f"run.dir={directory}", "train.images=8", "train.batch_size=4", "train.log_every_nimg=4", "steps=[1,2]",
        "draw.sources=[1,3]", "draw.source_rays=20", "draw.targets=2", "draw.target_rays=20",
        "evaluate.sources=[3]", "evaluate.targets=2", "evaluate.objects=2", "evaluate.fit.objects=0",
        "evaluate.intervals=20", "evaluate.pictures=2", "forward_model.resolution=16", "forward_model.channels=2",
        "forward_model.renderer.samples=6", "network.hidden_size=8", "network.depth=1", "network.num_heads=2", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(objects, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "planes"
    assert cli.main(["train", *tiny(objects, directory)]) == 0
    return directory


def test_a_run_ends_with_figures_and_a_report(run):
    results = json.loads((run / "metrics.json").read_text())
    names = results["metrics"].keys()
    assert {"psnr_k3", "over_unprojection_k3", "over_one_step_k3", "over_linear_steps2_k3"} <= names
    methods = ("steps1", "steps2", "linear2", "unprojection")
    assert {f"checkerboard_energy_{kind}{name}" for name in methods for kind in ("", "added_")} <= names
    assert results["baselines"].keys() == {"one_step", "unprojection", "mean_image", "white", "linear_unpatching"}
    assert (
        results["baselines"]["linear_unpatching"]["checkerboard_energy"]
        == results["metrics"]["checkerboard_energy_linear2"]["value"]
    )
    page = (run / "report.html").read_text()
    for words in ("Objects from a few views", "checkerboard", "Encodings", "length of the feature"):
        assert words in page


def test_all_transformers_begin_alike_but_for_the_un_patching(run):
    from goembed_core.config.resolve import resolve_run

    methods = models.build(resolve_run(run).config)
    first = methods["steps1"].network.state_dict()
    for name in ("steps2", "unprojection"):
        for key, value in methods[name].network.state_dict().items():
            assert (value == first[key]).all()
    assert methods["linear2"].config.unpatch == "linear" and methods["steps2"].config.unpatch == "convolutional"


def test_a_turntable_what_is_viewed_and_what_is_refused(run, objects, tmp_path, capsys):
    assert cli.main(["sample", str(run), "sources=2", "frames=2", "size=16", f"out={tmp_path}"]) == 0
    assert (tmp_path / "turntable.gif").stat().st_size > 500
    shown = viewing.encodings(Run.open(run))
    assert [each.name for each in shown if "linear" in each.name] == ["2 steps, linear"] and len(shown) == 4
    voxels = ["preset=quick", "forward_model.name=voxels"]
    assert cli.main(["train", *tiny(objects, tmp_path / "r", *voxels)]) == 2
    assert "the transformer works on planes" in capsys.readouterr().err
    assert cli.main(["train", *tiny(objects, tmp_path / "r", "network.patch_size=3")]) == 2
    assert "expected an even number" in capsys.readouterr().err
    assert cli.main(["sample", f"task={TASK}"]) == 2
    assert f"task={TASK} carries no model" in capsys.readouterr().err
