"""Reconstruction from the command line, made tiny."""

from __future__ import annotations

import json

import pytest
import torch
from goembed_core import cli, plugins
from goembed_core.randomness import ItemRandom
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
    asked = tiny(objects, tmp_path / "r", *more, "encodings=null", preset="quick")
    assert cli.main(["train", *(s.replace("resolution=16", "resolution=8") for s in asked)]) == 0
    methods = models.load(tmp_path / "r/model", TASK).methods
    assert [type(methods[name]).__name__ for name in ("steps1", "unprojection", "plain1", "clear")] == [
        "VoxelTransformer", "VoxelTransformer", "GOEmbed", "VoxelTransformer",
    ]  # fmt: skip
    assert methods["clear"].forward_model.config.decoder.density_bias == -4
    names = json.loads((tmp_path / "r/metrics.json").read_text())["metrics"].keys()
    assert {"over_plain_steps1_k3", "over_clear_k3", "psnr_k3_clear"} <= names
    assert not any(name.startswith("checkerboard") for name in names)


def test_networks_alone_learn_behind_encodings_that_are_trained(objects, tmp_path, capsys):
    """What stands before the network is to the bit what the other run trained."""
    shared = [s for s in tiny(objects, tmp_path / "r", preset="quick") if not s.startswith(("network", "task"))]
    shared = [s.replace("resolution=16", "resolution=8") for s in shared]
    first = [s.replace(str(tmp_path / "r"), str(tmp_path / "e")) for s in shared]
    assert cli.main(["train", "task=plenoptic_encoding", *first, "train.images=4"]) == 0
    sizes = ["network.hidden_size=8", "network.depth=1", "network.num_heads=2", "network.width=4"]
    asked = ["train", f"task={TASK}", *shared, *sizes, f"encodings={tmp_path / 'e'}"]
    assert cli.main(asked) == 0
    capsys.readouterr()
    trained = models.load(tmp_path / "e/model", "plenoptic_encoding").methods
    found = models.load(tmp_path / "r/model", TASK).methods
    assert found.keys() == {"steps1", "steps2", "unprojection", "plain2"}
    for name, method in found.items():
        encoder = method if name == "plain2" else method.encoder
        expected = trained["steps2" if name == "plain2" else name].state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())
        if name != "plain2":
            assert method.network.last.weight.abs().max() > 0
    logged = (tmp_path / "r/metrics.jsonl").read_text()
    assert "steps2/squared_error" in logged and "plain2/" not in logged
    assert cli.main([*asked, f"run.dir={tmp_path / 's'}", "steps=[3]"]) == 2
    assert "has no steps3, which steps3 begins with; it has steps1, steps2, unprojection" in capsys.readouterr().err
    assert cli.main([*asked, f"run.dir={tmp_path / 's'}", "forward_model.decoder.density_bias=0"]) == 2
    assert "steps1 was trained with forward_model.decoder=" in capsys.readouterr().err
    assert cli.main([*asked, f"run.dir={tmp_path / 's'}", "encodings=embedded"]) == 2
    assert "forward_model.resolution=16 instead of 8" in capsys.readouterr().err


def test_a_fixed_encoding_is_not_recorded(objects):
    """The step of training is the same as with all of it recorded."""
    forward_model = {"name": "voxels", "resolution": 8, "channels": 3, "renderer": {"samples": 4}}
    encoder = {"name": "goembed", "steps": 2, "forward_model": forward_model}
    sizes = {"patch_size": 4, "hidden_size": 8, "depth": 1, "num_heads": 2, "width": 4}
    method = plugins.build("encoder", "voxel-transformer", {"encoder": encoder, **sizes})
    torch.nn.init.normal_(method.network.last.weight, generator=torch.Generator().manual_seed(0))
    observations, _ = method.example(2, torch.Generator().manual_seed(0))
    random = ItemRandom(0, [0, 1], "rays", torch.device("cpu"))
    method.encoder.eval()
    signals = []
    for learns in (True, False):
        method.encoder.requires_grad_(learns)
        signals.append(models.embed_some(method, observations, None, random))
        gradients = torch.autograd.grad(signals[-1].square().sum(), list(method.network.parameters()))
        signals.append(gradients)
    assert torch.allclose(signals[0], signals[2], atol=1e-6)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(signals[1], signals[3], strict=True))
