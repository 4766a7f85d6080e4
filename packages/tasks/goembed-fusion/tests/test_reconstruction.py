"""Reconstruction from the command line, made tiny."""

from __future__ import annotations

import json

import pytest
from goembed_core import cli
from goembed_core.runs import Run
from goembed_fusion import methods as models
from goembed_fusion import viewing

TASK = "sparse_view_reconstruction"


def tiny(objects, directory, *more, preset="triplane"):
    return [
        f"task={TASK}", f"preset={preset}", f"dataset.path={objects}", "dataset.size=12", "dataset.packed=false",
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
    assert results["metrics"]["over_plain_steps2_k3"]["value"] == pytest.approx(
        results["metrics"]["psnr_k3"]["value"] - results["baselines"]["without_network"]["psnr_k3"], abs=1e-4
    )
    methods = ("steps1", "steps2", "linear2", "unprojection")
    assert {f"checkerboard_energy_{kind}{name}" for name in methods for kind in ("", "added_")} <= names
    assert results["baselines"].keys() == {
        "one_step", "unprojection", "mean_image", "white", "linear_unpatching", "without_network",
    }  # fmt: skip
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
    assert [each.name for each in shown if "linear" in each.name] == ["2 steps, linear"] and len(shown) == 5
    factored = tiny(objects, tmp_path / "r", "forward_model.name=factored")
    assert cli.main(["train", *factored]) == 2
    assert "the transformer works on voxels or planes" in capsys.readouterr().err
    assert cli.main(["train", *tiny(objects, tmp_path / "r", 'compare_unpatching=["linear"]', preset="quick")]) == 2
    assert "with voxels, whose tokens are convolved" in capsys.readouterr().err
    assert cli.main(["train", *tiny(objects, tmp_path / "r", "network.patch_size=3")]) == 2
    assert "expected an even number" in capsys.readouterr().err
    assert cli.main(["sample", f"task={TASK}"]) == 2
    assert f"task={TASK} carries no model" in capsys.readouterr().err


def test_voxels_are_improved_and_compared_too(objects, tmp_path):
    more = ("train.images=4", "steps=[1]", "against.clear.forward_model.decoder.density_bias=-4")
    asked = tiny(objects, tmp_path / "r", *more, preset="quick")
    assert cli.main(["train", *(s.replace("resolution=16", "resolution=8") for s in asked)]) == 0
    methods = models.load(tmp_path / "r/model", TASK).methods
    assert [type(methods[name]).__name__ for name in ("steps1", "unprojection", "plain1", "clear")] == [
        "VoxelTransformer", "VoxelTransformer", "GOEmbed", "VoxelTransformer",
    ]  # fmt: skip
    assert methods["clear"].forward_model.config.decoder.density_bias == -4
    names = json.loads((tmp_path / "r/metrics.json").read_text())["metrics"].keys()
    assert {"over_plain_steps1_k3", "over_clear_k3", "psnr_k3_clear"} <= names
    assert not any(name.startswith("checkerboard") for name in names)
