"""The task from the command line, made tiny."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from goembed_core import cli
from goembed_core.config import ComponentConfig
from goembed_core.config.resolve import resolve, resolve_run
from goembed_core.randomness import ItemRandom
from goembed_core.runs import Run
from goembed_core.trees import tree_map
from goembed_fusion import methods as models
from goembed_fusion import viewing
from goembed_fusion.config import PRESETS, RECONSTRUCTION_PRESETS, DrawConfig, EvaluateConfig, FitConfig
from goembed_fusion.evaluation import Judge, paired
from goembed_fusion.fitting import fit, variation
from goembed_fusion.methods import embed
from goembed_fusion.scenes import draw, fixed_list, load
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.fields import FieldSamples
from goembed_nerf_renderer.viewing import look
from PIL import Image

TASK = "plenoptic_encoding"


def tiny(objects, directory, *more):
    return [
        f"task={TASK}", f"dataset.path={objects}", "dataset.size=12", "dataset.packed=false",
        f"run.dir={directory}", "train.images=16", "train.batch_size=4", "train.log_every_nimg=4", "steps=[1,2]",
        "draw.sources=[1,3]", "draw.source_rays=20", "draw.targets=2", "draw.target_rays=20",
        "evaluate.sources=[1,3]", "evaluate.targets=2", "evaluate.objects=2", "evaluate.fit.objects=1",
        "evaluate.fit.steps=3", "evaluate.fit.rays=20", "evaluate.intervals=20", "evaluate.pictures=2",
        "forward_model.resolution=6", "forward_model.channels=4", "forward_model.renderer.samples=6", *more,
    ]  # fmt: skip


SIREN = ("preset=siren", "forward_model.hidden_size=8")


@pytest.fixture(scope="module")
def run(objects, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "voxels"
    assert cli.main(["train", *tiny(objects, directory, "detached=true")]) == 0
    return directory


@pytest.fixture(scope="module")
def scenes(objects):
    section = ComponentConfig(name="omniobject3d", path=str(objects), size=12, split="train").of_kind("dataset")
    return {split: load(section, split) for split in ("train", "test")}


def test_a_run_ends_with_figures_and_a_report(run):
    results = json.loads((run / "metrics.json").read_text())
    named = {f"psnr_k{k}{kind}" for k in (1, 3) for kind in ("", "_steps1", "_steps2", "_detached1", "_detached2")}
    named |= {
        f"{name}_k{k}"
        for k in (1, 3)
        for name in ("over_unprojection", "one_step_over_unprojection", "over_one_step", "gap_to_fitting",
                     "gap_to_fitting_at_sources", "over_detached_steps1", "over_detached_steps2", "sources_psnr")
    }  # fmt: skip
    assert results["metrics"].keys() == named
    baselines = results["baselines"]
    assert baselines.keys() == {"one_step", "unprojection", "mean_image", "white", "fit_same_views"}
    figures = {name: entry["value"] for name, entry in results["metrics"].items()}
    for k in (1, 3):
        assert figures[f"psnr_k{k}"] == figures[f"psnr_k{k}_steps2"]
        assert figures[f"over_one_step_k{k}"] == pytest.approx(
            figures[f"psnr_k{k}"] - baselines["one_step"][f"psnr_k{k}"], abs=1e-4
        )
    for k in (1, 3):
        gap = baselines["fit_same_views"][f"sources_psnr_k{k}"] - figures[f"sources_psnr_k{k}"]
        assert figures[f"gap_to_fitting_at_sources_k{k}"] == pytest.approx(gap, abs=1e-4)
    assert baselines["white"]["psnr_k1"] == baselines["white"]["psnr_k3"]
    page = (run / "report.html").read_text()
    for words in ("Views and steps", "Held-out objects", "Encodings", "Training", "box"):
        assert words in page


def test_what_is_paired_with_what():
    ends = {"steps1": 10.0, "steps3": 12.0, "steps5": 15.0, "unprojection": 9.0, "plain5": 14.0, "mine": 11.0}
    scores = {name: {4: torch.tensor([end, end + 1])} for name, end in ends.items()}
    scores["fit_same_views"] = {4: torch.tensor([20.0])}  # of fewer objects
    found = paired(models.Model({}, {"steps": [1, 3, 5], "against": ["mine"]}), scores)
    assert {name: each[4].tolist() for name, each in found.items()} == {
        "over_unprojection": [6, 6], "one_step_over_unprojection": [1, 1], "over_one_step": [5, 5],
        "steps3_over_one_step": [2, 2], "over_plain_steps5": [1, 1], "over_mine": [4, 4], "gap_to_fitting": [5],
    }  # fmt: skip


def test_a_turntable_of_an_object(run, tmp_path):
    assert cli.main(["sample", str(run), "object=1", "sources=2", "frames=3", "size=16", f"out={tmp_path}"]) == 0
    with Image.open(tmp_path / "turntable.gif") as turntable:
        assert turntable.n_frames == 3 and turntable.size == (5 * 16, 16)
    assert cli.main(["sample", str(run), "object=2"]) == 2


def test_what_is_decoded_can_be_viewed(run):
    shown = viewing.encodings(Run.open(run))
    names = ["1 step", "2 steps", "1 step, detached", "2 steps, detached", "unprojection"]
    assert sorted(each.name for each in shown) == sorted(names)
    pictures = [look(each, Camera(*(leaf[0] for leaf in each.views)), 12, 12).colour for each in shown]
    assert all(picture.shape == (12, 12, 3) and picture.isfinite().all() for picture in pictures)
    assert not torch.equal(pictures[0], pictures[1])
    assert shown[0].images.shape == (3, 3, 12, 12)


@pytest.mark.parametrize("preset", ["triplane", "factored"])
def test_planes_have_a_scale_for_each_plane_and_channel(objects, tmp_path, preset):
    asked = tiny(objects, tmp_path / preset, f"preset={preset}", "train.images=4", "steps=[1]", "evaluate.sources=[2]")
    assert cli.main(["train", *asked]) == 0
    model = models.load(tmp_path / preset / "model", TASK)
    assert model.methods["steps1"].scale.rms.shape[1] == 3 * 4 * (2 if preset == "factored" else 1)
    assert "over_unprojection_k2" in json.loads((tmp_path / preset / "metrics.json").read_text())["metrics"]


def test_further_encodings_differ_in_what_was_asked_for_alone(objects, tmp_path):
    asked = tiny(
        objects, tmp_path / "r", "train.images=4", "steps=[1]", "evaluate.sources=[2]",
        "against.three.steps=[3]", "against.moved.forward_model.learned_origin=true",
    )  # fmt: skip
    assert cli.main(["train", *asked]) == 0
    results = json.loads((tmp_path / "r/metrics.json").read_text())
    assert {"psnr_k2_three", "over_three_k2", "over_moved_k2"} <= results["metrics"].keys()
    model = models.load(tmp_path / "r/model", TASK)
    assert {name: method.config.steps for name, method in model.methods.items() if name != "unprojection"} == {
        "steps1": 1, "three": 3, "moved": 1,
    }  # fmt: skip
    moved = model.methods["moved"].forward_model
    assert moved.config.model_copy(update={"learned_origin": False}) == model.methods["three"].forward_model.config
    assert moved.origin(1, torch.device("cpu")).any()  # it was learned
    page = (tmp_path / "r/report.html").read_text()
    assert "moved" in page


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("against.white.gain=1", "against.white: so another method is called"),
        ("against.more.optimizer.lr=1", "against.more.optimizer: encodings are compared on the same batches"),
        ("against.more.gain=-1", "against.more: "),
    ],
)
def test_what_further_encodings_cannot_be_is_said(objects, tmp_path, capsys, asked, told):
    assert cli.main(["train", *tiny(objects, tmp_path / "r", asked)]) == 2
    assert told in capsys.readouterr().err


def test_a_network_of_sines_has_no_unprojection(objects, tmp_path):
    asked = [s for s in tiny(objects, tmp_path / "r", *SIREN, "train.images=4", "steps=[1]") if "resolution" not in s]
    assert cli.main(["train", *asked]) == 0
    results = json.loads((tmp_path / "r/metrics.json").read_text())
    assert "unprojection" not in results["baselines"] and "white" in results["baselines"]


def test_sources_and_targets_are_different_views_and_as_many_in_a_batch(scenes):
    config, seen = DrawConfig(sources=(1, 4), targets=3, target_rays=5), set()
    for step in range(30):
        drawn = draw(scenes["train"], config, ItemRandom(0, range(4 * step, 4 * step + 4)), ItemRandom(0, [step]))
        seen.add(drawn.sources.values.shape[1])
        poses = torch.cat([drawn.sources.params.camera.camera_to_world, drawn.targets.params.camera.camera_to_world], 1)
        for item in poses.flatten(2):
            assert len(item.unique(dim=0)) == len(item)
    assert seen == {1, 2, 3, 4}


def test_the_fewest_sources_can_have_a_share_of_their_own(scenes):
    counts = []
    for step in range(200):
        config = DrawConfig(sources=(1, 4), fewest_share=0.6, targets=1, target_rays=1)
        counts.append(draw(scenes["train"], config, ItemRandom(0, [0]), ItemRandom(0, [step])).sources.values.shape[1])
    shares = [counts.count(number) / len(counts) for number in (1, 2, 3, 4)]
    assert shares[0] == pytest.approx(0.7, abs=0.08) and all(
        each == pytest.approx(0.1, abs=0.06) for each in shares[1:]
    )


def test_the_fixed_list_is_fixed_and_holds_out_objects_and_views(scenes):
    one, other = (fixed_list(scenes["test"], 2, sources, 2) for sources in (3, 6))
    assert (one.targets == other.targets).all() and (one.sources == other.sources[:, :3]).all()
    for sources, targets in zip(other.sources.tolist(), other.targets.tolist(), strict=True):
        assert not set(sources) & set(targets)
    assert not set(scenes["train"].names) & set(scenes["test"].names)


def fitted(run, scenes, **settings):
    """The error at the sources of a fit, and what it was begun with and ended at."""
    method = models.load(run / "model", TASK).methods["steps1"].eval()
    judge = Judge(EvaluateConfig(sources=(3,), targets=2, objects=2), scenes["test"], torch.device("cpu"))
    sources = judge.sources(judge.everything[:1], 3)
    start = method.forward_model.origin(1, torch.device("cpu"))
    found = fit(FitConfig(rays=40, **settings), method.forward_model, sources, start)
    error = (found.forward_model(found.signal, sources.params) - sources.values).square().mean().item()
    return error, method.forward_model, found


def test_more_steps_of_fitting_come_nearer_and_a_decoder_of_its_own_nearer_still(run, scenes):
    settings = {"lr": 0.02, "smoothness": 0.0}
    few, *_ = fitted(run, scenes, steps=1, decoder_lr=None, **settings)
    many, before, found = fitted(run, scenes, steps=60, decoder_lr=None, **settings)
    own, trained, other = fitted(run, scenes, steps=60, decoder_lr=1e-2, **settings)
    assert own < 0.7 * many < 0.7 * few
    weights = [model.decode.decoder.network[0].weight for model in (before, found.forward_model, other.forward_model)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(trained.decode.decoder.network[0].weight, weights[0])  # that of the run is as it was


def test_a_smooth_fit_varies_less(run, scenes):
    found = []
    for smoothness in (0.0, 0.5):
        _, _, (signal, model) = fitted(run, scenes, steps=60, lr=0.02, decoder_lr=1e-2, smoothness=smoothness)
        found.append(variation(model.decode(signal), ItemRandom(0, [0])).item())
    assert found[1] < 0.7 * found[0]


class Steps:
    """A field with a step of opacity and colour at x = 0.5."""

    decoder = SimpleNamespace(low=(0.0, -1.0, -1.0), high=(1.0, 1.0, 1.0))

    def __call__(self, points, directions):
        solid = (points[..., 0] > 0.5).float()
        return FieldSamples(1e3 * solid, solid[..., None].expand(*solid.shape, 3))


def test_variation_is_that_of_neighbours_along_each_axis():
    """A sixteenth of the places have the step between them and their neighbour along one axis of three."""
    found = torch.stack([variation(Steps(), ItemRandom(0, [n])) for n in range(40)]).mean().item()
    assert found == pytest.approx(1 / 15 / 3, rel=0.15)


def test_more_views_than_were_trained_on_make_no_larger_an_encoding(run, scenes):
    """Every view twice gives what each gives once, where the once were as many as training had at most."""
    method = models.load(run / "model", TASK).methods["steps1"]
    judge = Judge(EvaluateConfig(sources=(3,), targets=2, objects=2), scenes["test"], torch.device("cpu"))
    once = judge.sources(judge.everything, 3)
    twice = tree_map(lambda leaf: torch.cat([leaf, leaf], 1), once)
    torch.testing.assert_close(embed(method, twice, 3), embed(method, once, 3))
    torch.testing.assert_close(embed(method, twice, 6), 2 * embed(method, once, 3))
    summed = embed(method, once, 3)
    method.config = method.config.model_copy(update={"views": "mean"})
    for most in (3, 6):
        torch.testing.assert_close(3 * embed(method, twice, most), summed)


def test_methods_begin_with_the_same_decoder(run):
    config = resolve_run(run).config
    methods = models.build(config)
    first = methods["steps1"].forward_model.state_dict()
    for method in methods.values():
        for key, value in method.forward_model.state_dict().items():
            assert (value == first[key]).all()


def test_a_loaded_method_encodes_as_it_did(run, scenes, tmp_path):
    config, model = resolve_run(run).config, models.load(run / "model", TASK)
    models.save(tmp_path / "again", config, model.methods, {"images_seen": 16, "seconds": 1.0})
    again = models.load(tmp_path / "again", TASK)
    judge = Judge(EvaluateConfig(sources=(3,), targets=2, objects=2), scenes["test"], torch.device("cpu"))
    sources = judge.sources(judge.everything, 3)
    for name in model.methods:
        assert torch.equal(model.embed(name, sources), again.embed(name, sources))


@pytest.mark.parametrize("task", ["plenoptic_encoding", "sparse_view_reconstruction"])
def test_presets_say_which_methods_there_are(task):
    presets = {"plenoptic_encoding": PRESETS, "sparse_view_reconstruction": RECONSTRUCTION_PRESETS}[task]
    common = {"steps1", "steps3", "unprojection"}
    expected = {
        "plenoptic_encoding": {
            "quick": common | {"steps5"}, "triplane": common | {"steps2"}, "factored": common | {"steps2"},
            "siren": {"steps1", "steps2", "steps3"},
            "origins": {"steps3", "unprojection", "dense_origin", "clear_origin", "learned_origin"},
        },
        "sparse_view_reconstruction": {
            "quick": {"steps1", "steps5", "unprojection", "plain5"},
            "triplane": common | {"plain3", "linear3"},
        },
    }[task]  # fmt: skip
    for name in presets:
        assert models.encoders_of(resolve(task, [f"preset={name}"]).config).keys() == expected[name]


def test_what_cannot_be_done_is_said(objects, tmp_path, capsys):
    directory = tmp_path / "r"
    missing = tiny(tmp_path / "nothing", directory)
    assert cli.main(["train", *missing]) == 2
    assert "goembed render-meshes folder=MESHES out=FOLDER" in capsys.readouterr().err
    assert cli.main(["train", *tiny(objects, directory, "evaluate.sources=[1,8]")]) == 2
    assert "evaluate.sources and evaluate.targets ask for 10 views of an object" in capsys.readouterr().err
    assert cli.main(["train", *tiny(objects, directory, "dataset.name=boxes")]) == 2
    capsys.readouterr()
    assert not directory.exists()
