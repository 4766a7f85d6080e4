"""The diffusion over planes from the command line, made tiny."""

from __future__ import annotations

import json

import pytest
import torch
import trimesh
from goembed_core import cli, plugins
from goembed_core.config import ConfigError, resolve, resolve_run
from goembed_core.metrics.distances import frechet_distance
from goembed_core.randomness import ItemRandom
from goembed_core.runs import Run
from goembed_fusion import viewing
from goembed_fusion.generation import model as models
from goembed_fusion.generation.evaluation import frechet
from goembed_fusion.generation.judged import judged_views
from goembed_fusion.generation.solve import Solver
from goembed_fusion.scenes import load
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.viewing import look
from PIL import Image

TASK = "goembed_fusion"
MODEL = "denoiser.encoder.forward_model"


def tiny(objects, *more, preset="triplane"):
    return [
        f"task={TASK}", f"preset={preset}", "encodings=null", f"dataset.path={objects}", "dataset.size=12",
        "dataset.packed=false", "train.images=8", "train.batch_size=4", "train.log_every_nimg=4",
        "views.context=[1,2]", "views.rays=20", "views.encoded_rays=20",
        "sampler.num_steps=2", "evaluate.context=[1,2]", "evaluate.objects=2", "evaluate.samples=2", "evaluate.views=1",
        "evaluate.intervals=20", "evaluate.pictures=2", "evaluate.features=null", "denoiser.encoder.steps=2",
        f"{MODEL}.resolution=16", f"{MODEL}.channels=2", f"{MODEL}.renderer.samples=6", "denoiser.hidden_size=8",
        "denoiser.depth=1", "denoiser.num_heads=2", "denoiser.width=4", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module", params=["triplane", "quick"])
def run(objects, tmp_path_factory, request):
    directory = tmp_path_factory.mktemp("runs") / "fusion"
    assert cli.main(["train", *tiny(objects, preset=request.param), f"run.dir={directory}"]) == 0
    return directory


def batch(config, scenes, seed=0):
    return models.draw(scenes, config.views, ItemRandom(seed, range(4)), ItemRandom(seed, [0]))


def test_a_run_ends_with_figures_and_a_report(run):
    results = json.loads((run / "metrics.json").read_text())
    named = {"psnr_k1", "psnr_k2", "spread_seen", "spread_unseen", "spread_ratio", "checkerboard_energy"}
    assert results["metrics"].keys() == named | {"seconds_per_sample"} and results["images_seen"] == 8
    baselines = results["baselines"]
    assert baselines.keys() == {"regression", "mean_of_samples", "mean_image", "white"}
    assert baselines["regression"].keys() == {"psnr_k1", "psnr_k2", "checkerboard_energy"}
    assert baselines["white"]["psnr_k1"] == baselines["white"]["psnr_k2"]
    figures = {name: entry["value"] for name, entry in results["metrics"].items()}
    assert figures["spread_seen"] > 0 and figures["spread_unseen"] > 0
    page = (run / "report.html").read_text()
    for words in ("Given, truth, samples", "Disagreement", "Unconditional", "Turntables", "data:image/gif", "Training"):
        assert words in page


def test_samples_are_turntables_points_and_meshes(run, tmp_path):
    asked = ["sources=1", "num_samples=2", "frames=3", "size=16", "mesh_cells=8", "opacity=0.05"]
    assert cli.main(["sample", str(run), "object=1", *asked, "sampler.num_steps=2", f"out={tmp_path}"]) == 0
    each = {f"sample0{k}.{end}" for k in range(2) for end in ("gif", "ply", "glb")}
    assert {path.name for path in tmp_path.iterdir()} == each | {"grid.png", "regression.gif"}
    with Image.open(tmp_path / "sample01.gif") as picture:
        assert picture.n_frames == 3 and picture.size == (16, 16)
    cloud = trimesh.load(tmp_path / "sample00.ply")
    assert len(cloud.vertices) > 10 and abs(cloud.vertices).max() <= 1 + 1e-5
    mesh = trimesh.load(tmp_path / "sample00.glb", force="mesh")
    assert len(mesh.faces) > 10 and abs(mesh.vertices).max() <= 1 + 1e-5


def test_samples_of_nothing_given(run, tmp_path):
    asked = ["sources=0", "num_samples=1", "frames=2", "size=16", "export=none", "sampler.num_steps=2"]
    assert cli.main(["sample", str(run), *asked, "sampler.guidance_scale=2", f"out={tmp_path}"]) == 0
    assert (tmp_path / "sample00.gif").stat().st_size > 200


def test_samples_can_be_viewed(run):
    shown = viewing.samples(Run.open(run))
    names = [f"sample {n + 1}" for n in range(4)]
    assert [each.name for each in shown] == [*names, "sample of nothing", "regression"]
    pictures = [look(each, Camera(*(leaf[0] for leaf in each.views)), 12, 12).colour for each in shown]
    assert all(picture.shape == (12, 12, 3) and picture.isfinite().all() for picture in pictures)
    assert not torch.equal(pictures[0], pictures[1])
    assert shown[0].images.shape == (1, 3, 12, 12) and shown[0].distance > 2


@pytest.mark.parametrize("preset", ["triplane", "quick"])
def test_every_weight_learns_of_both_networks(objects, preset):
    config = resolve(TASK, tiny(objects, preset=preset)[1:]).config
    scenes, networks = load(config.dataset, "train"), models.build(config)
    training = models.Training(config, networks)
    generator = torch.Generator().manual_seed(0)
    for name, losses in (("denoiser", training.dfm_losses), ("regression", training.regression_losses)):
        with torch.no_grad():  # what is zero at first keeps others from learning
            for weight in networks[name].parameters():
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
        terms = losses(batch(config, scenes), ItemRandom(0, range(4)))
        assert terms.losses.keys() == {"target", "novel"}
        sum(terms.losses.values()).backward()
        idle = {
            key for key, weight in networks[name].named_parameters() if weight.grad is None or not weight.grad.any()
        }
        idle.discard("prior")  # of signals of which nothing is given
        assert idle == (set() if name == "denoiser" else {key for key in idle if "of_time" in key})


def test_it_learns_one_batch(objects):
    """The error of the same few objects falls, of the diffusion and of the regression."""
    config = resolve(TASK, tiny(objects)[1:]).config
    scenes, networks = load(config.dataset, "train"), models.build(config)
    training = models.Training(config, networks)
    for name, losses in (("denoiser", training.dfm_losses), ("regression", training.regression_losses)):
        optimizer = torch.optim.Adam(networks[name].parameters(), lr=1e-2)
        history = []
        for _ in range(40):
            total = sum(losses(batch(config, scenes), ItemRandom(0, range(4))).losses.values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            history.append(total.item())
        assert history[-1] < 0.6 * history[0]


def test_roles_are_different_views(objects):
    config = resolve(TASK, tiny(objects, "views.context=[1,4]")[1:]).config
    scenes, seen = load(config.dataset, "train"), set()
    for step in range(20):
        split = models.draw(scenes, config.views, ItemRandom(step, range(4)), ItemRandom(step, [0]))
        seen.add(split.context.values.shape[1])
        poses = torch.cat([part.params.camera.camera_to_world for part in split], 1).flatten(2)
        assert all(len(item.unique(dim=0)) == len(item) for item in poses)
        assert split.target.values.shape[1] == 2 and split.novel.values.shape[1] == 1
        assert -1 <= split.target.values.min() < 0 < split.target.values.max() <= 1
    assert seen == {1, 2, 3, 4}


def test_the_sides_are_nearest_and_farthest_of_what_is_left(objects):
    config = resolve(TASK, tiny(objects)[1:]).config
    scenes = load(config.dataset, "test")
    judged = judged_views(config, scenes, torch.device("cpu"))
    places = {
        name: part.params.camera.camera_to_world[..., :3, 3]
        for name, part in judged._asdict().items()
        if name != "names"
    }
    every = scenes.camera.camera_to_world[:, :, :3, 3]
    for row in range(2):
        first = places["context"][row, 0]
        taken = torch.cat([places["context"][row, :1], places["target"][row]])
        left = [place for place in every[row * (len(every) - 1)] if not (place == taken).all(-1).any()]
        angles = torch.stack([torch.nn.functional.cosine_similarity(place, first, dim=0) for place in left])
        for number, chosen in enumerate((angles.argmax(), angles.argmin())):
            assert torch.equal(places["sides"][row, number], left[chosen])


def test_the_distance_is_the_same_in_what_both_sets_span():
    one, other = (torch.randn(n, 40, generator=torch.Generator().manual_seed(n)) for n in (9, 12))
    assert frechet(one, other) == pytest.approx(frechet_distance(one, other), rel=1e-5)
    assert frechet(one, one) == pytest.approx(0, abs=1e-5)


def test_a_loaded_model_samples_as_it_did(run, objects, tmp_path):
    config = resolve_run(run).config
    model = models.load(run / "model")
    models.save(
        tmp_path / "again", config, {"denoiser": model.denoiser, "regression": model.regression}, {"images_seen": 8}
    )
    judged = judged_views(config, load(config.dataset, "test"), torch.device("cpu"))
    found = []
    for each in (model, models.load(tmp_path / "again")):
        solver = Solver(each, 0, 4)
        known = solver.encode(each.denoiser, judged.context)
        found.append(solver.samples(known, judged.target.params, 2, config.sampler, "x"))
    assert torch.equal(found[0].signals, found[1].signals)


def test_a_sample_does_not_depend_on_its_batch(run):
    config = resolve_run(run).config
    judged = judged_views(config, load(config.dataset, "test"), torch.device("cpu"))
    model = models.load(run / "model")
    guided = config.sampler.model_copy(update={"guidance_scale": 1.5})
    for sampler in (config.sampler, guided):
        found = []
        for batch_size in (1, 4):
            solver = Solver(model, 0, batch_size)
            known = solver.encode(model.denoiser, judged.context)
            found.append(solver.samples(known, judged.target.params, 2, sampler, "x").signals)
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)
        assert not torch.allclose(found[0][0], found[0][1])


def test_what_cannot_be_done_is_said(run, objects, tmp_path, capsys):
    for more, told in {
        "denoiser.encoder.timesteps=500": "denoiser.encoder.timesteps=500 and schedule.num_timesteps=1000: make these",
        "denoiser.encoder.timesteps=null": "denoiser.encoder.timesteps=None and schedule.num_timesteps=1000",
        "denoiser.patch_size=6": "denoiser.patch_size=6 does not divide the planes' side, 16",
        "evaluate.context=[1,6]": "ask for 10 views of an object, and those of dataset have 8",
        'evaluate.features={"name": "efficientnet-lite0", "weights": "nothing.npz"}': "there is no such file",
        "views.context=[3,1]": "context=[3, 1]: expected the fewest first",
    }.items():
        assert cli.main(["train", *tiny(objects), more, f"run.dir={tmp_path / 'r'}"]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert cli.main(["sample", str(run), "object=2", f"out={tmp_path}"]) == 2
    assert "object=2: the run's list has 2 objects" in capsys.readouterr().err
    assert cli.main(["sample", str(run), "sources=3", f"out={tmp_path}"]) == 2
    assert "sources=3: the fixed list has 2 views" in capsys.readouterr().err
    assert cli.main(["sample", f"task={TASK}"]) == 2
    assert "carries no model" in capsys.readouterr().err


def test_what_has_no_planes_is_refused():
    model = {"name": "siren", "hidden_size": 8}
    encoder = {"name": "goembed", "timesteps": 1000, "forward_model": model}
    with pytest.raises(ConfigError, match=r"expected square planes \(planes, channels, side, side\)"):
        plugins.build("denoiser", "plane-denoiser", {"encoder": encoder})


@pytest.mark.parametrize("preset", ["quick", "triplane", "paper"])
def test_presets_are_sound(preset):
    """Their settings fit each other; a network of the published size is built without memory."""
    config = resolve(TASK, [f"preset={preset}"]).config
    with torch.device("meta"):
        network = config.denoiser.build().network
    blocks = network.blocks if preset == "quick" else network.transformer.blocks
    count = sum(weight.numel() for weight in blocks.parameters())
    if preset == "paper":
        assert count == 28 * (18 * 1152**2 + 15 * 1152)  # DiT-XL/2's blocks
        assert config.optimizer.lr == 5e-5 and config.views.context == (4, 4) and config.views.target == 2
    else:
        assert 1e5 < count < 1e6
