"""Training steps, stages and sampling of a small model."""

from __future__ import annotations

import pytest
import torch
from goembed_core.config import ConfigError
from goembed_core.config.solvers import SamplerConfig
from goembed_core.diffusion import DFM
from goembed_core.errors import UserError
from goembed_core.optimizers import Player, make_optimizers
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import select_items, select_views, tree_map
from goembed_inverse_graphics import model as models
from goembed_inverse_graphics.model import Training, split_scene, stages, trained_part
from goembed_inverse_graphics.solve import CachedDenoiser, Solver, all_scenes
from goembed_inverse_graphics.view import KnownView
from goembed_nerf_renderer.fields import ProposedField
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_pixel_aligned.denoiser import guide

SAMPLER = SamplerConfig(num_steps=3)


def moved(module: torch.nn.Module) -> torch.nn.Module:
    """Noise on every weight, as layers that begin at zero would hide what is wrong."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return module


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    found = models.build(config)
    moved(found.denoiser).eval()
    return found


@pytest.fixture
def split(config):
    scenes = config.dataset.build().observations(torch.arange(3))
    return split_scene(scenes, config.views, ItemRandom(0, range(3)))


def test_the_number_of_views_given_is_drawn_for_each_batch(settings):
    """Evenly from the least to the most, with a target and a novel view that are none of them."""
    config = settings("views.most_context=3", "dataset.views=5")
    scenes = config.dataset.build().observations(torch.arange(2))
    counts = []
    for batch in range(150):
        split = split_scene(scenes, config.views, ItemRandom(0, [2 * batch, 2 * batch + 1]))
        counts.append(split.context.values.shape[1])
        assert torch.equal(split.context.values[:, 0], 2 * scenes.values[:, 0] - 1)
        views = torch.cat([part.params.camera.camera_to_world for part in split], 1)  # the novel: another, the context
        assert views.shape[1] == 2 * counts[-1] + 2 and len(views[0].unique(dim=0)) == counts[-1] + 2
    assert all(35 <= counts.count(k) <= 65 for k in (1, 2, 3)) and len(counts) == 150
    with pytest.raises(UserError, match="scenes of 3 views for 3 of context and a target"):
        split_scene(select_views(scenes, slice(0, 3)), config.views, ItemRandom(0, range(2)))
    with pytest.raises(ConfigError, match="most_context=1 is below context=2"):
        settings("views.context=2", "views.most_context=1")


@pytest.mark.parametrize(
    ("changed", "taking_turns"),
    [
        ((), ["pixelnerf", "dfm"]),
        (("score.estimate=1", "dfm_every=1"), ["dfm"]),
        (("denoiser.estimate.corrected=false",), ["pixelnerf", "dfm"]),
        (("denoiser.estimate.corrected=false", "score.estimate=1", "dfm_every=1"), ["dfm"]),
        (("dfm_every=1",), ["pixelnerf", "dfm"]),
        (("score.estimate=1",), ["pixelnerf", "dfm"]),
    ],
)
def test_every_parameter_has_a_gradient_from_the_losses(settings, split, changed, taking_turns):
    """All that a stage moves, and together all that there is; what a stage does not move has none that count."""
    config = settings(*changed)
    model = models.build(config)
    moved(model.denoiser)
    training = Training(config, model)
    losses = {"pixelnerf": training.pixelnerf_losses, "dfm": training.dfm_losses}
    assert list(stages(config)) == taking_turns
    everything = {id(p): n for n, p in model.denoiser.named_parameters()}
    reached = set()
    for stage in taking_turns:
        model.denoiser.zero_grad()
        part = trained_part(model.denoiser, config, stage)
        sum(losses[stage](split, ItemRandom(0, range(3))).losses.values()).backward()
        found = {id(p) for p in model.denoiser.parameters() if p.grad is not None and p.grad.any()}
        assert all(p.grad.isfinite().all() for p in part.parameters() if p.grad is not None)
        own = {id(p) for p in part.parameters()}
        if stage == "pixelnerf" or len(taking_turns) == 1 or config.denoiser.settings.estimate.corrected:
            assert [everything[p] for p in found ^ own] == []
        reached |= found
    assert len(everything) > 50 and reached == everything.keys()


def test_the_novel_views_have_a_weight(settings, split):
    found = []
    for weight in (1, 6):
        config = settings(f"score.novel={weight}")
        torch.manual_seed(0)
        found.append(Training(config, models.build(config)).dfm_losses(split, ItemRandom(0, range(3))))
    (one, six), names = found, found[0].losses.keys()
    assert names == {"target", "novel"} and one.statistics.keys() == six.statistics.keys()
    torch.testing.assert_close(six.losses["novel"], 6 * one.losses["novel"])
    torch.testing.assert_close(six.losses["target"], one.losses["target"])
    torch.testing.assert_close(six.statistics["novel_squared_error"], one.statistics["novel_squared_error"])


def test_stage_pixelnerf_moves_the_estimate_and_its_encoder_alone(settings, split):
    config = settings("stage=pixelnerf")
    model = models.build(config)
    moved(model.denoiser)
    terms = Training(config, model).pixelnerf_losses(split, ItemRandom(0, range(3)))
    sum(terms.losses.values()).backward()
    own = {id(p) for p in trained_part(model.denoiser, config, "pixelnerf").parameters()}
    for name, parameter in model.denoiser.named_parameters():
        expected = name.startswith(("context_encoder.", "estimate_field."))
        assert (parameter.grad is not None) is expected and (id(parameter) in own) is expected, name


def test_patches_have_distortion_and_smoothness(settings, model, split):
    config = settings("score.patch_px=6", "score.distortion=0.1", "score.smoothness=0.1", "score.estimate=1")
    losses = Training(config, model).dfm_losses(split, ItemRandom(0, range(3))).losses
    assert losses.keys() == {"target", "novel", "estimate", "distortion", "smoothness"}
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    with pytest.raises(ConfigError, match="set patch_px"):
        settings("score.lpips=0.1")


@pytest.mark.parametrize(
    ("moved_parts", "left"),
    [
        (("context_encoder", "estimate_field", "target_encoder", "field"), (0.24, 0.31, 0.28)),
        (("target_encoder", "field"), (0.23, 0.28, 1.0)),
    ],
)
def test_a_short_training_finds_colours(settings, moved_parts, left):
    """40 steps on 8 scenes leave 0.22, 0.29 and 0.25 of the errors of target, novel view and estimate.

    The correction alone leaves 0.21 and 0.25 of the first two; with both fields as they were 0.94 and 1.0 are left,
    with the estimate's 0.31 of the last.
    """
    config = settings("optimizer.muon_lr=null", "optimizer.lr=5e-3", "score.estimate=1")
    torch.manual_seed(0)
    model = models.build(config)
    for name, part in model.denoiser.named_children():
        part.requires_grad_(name in moved_parts)
    training = Training(config, model)
    (adam,) = make_optimizers("denoiser", Player(model.denoiser, config.optimizer))
    scenes = config.dataset.build().observations(torch.arange(8))
    history = []
    for step in range(40):
        split = split_scene(scenes, config.views, ItemRandom(0, range(8)))
        terms = training.dfm_losses(split, ItemRandom(step, range(8)))
        adam.zero_grad()
        sum(terms.losses.values()).backward()
        adam.step()
        history.append([terms.losses[k].item() for k in ("target", "novel", "estimate")])
    first, last = torch.tensor(history[:3]).mean(0), torch.tensor(history[-5:]).mean(0)
    assert (last < torch.tensor(left) * first).all(), (last / first).tolist()


@pytest.mark.parametrize(
    ("corrected", "part"),
    [(False, "context_encoder"), (False, "target_encoder"), (False, "estimate_field"), (False, "field"),
     (True, "target_encoder"), (True, "field")],
)  # fmt: skip
def test_the_gradient_is_the_slope_of_the_loss(settings, corrected, part):
    """In float64, along a random direction of each part's weights; samples of rays lie where no weight moves them."""
    config = settings(
        f"denoiser.estimate.corrected={str(corrected).lower()}",
        "forward_model.proposal_samples=[]", "denoiser.estimate.detach=false", "score.distortion=0.1", "score.rays=8",
        "score.estimate=0",
    )  # fmt: skip
    torch.manual_seed(0)
    model = models.build(config)
    moved(model.denoiser)
    training = Training(config, model).double()
    scenes = config.dataset.build().observations(torch.arange(2))
    split = tree_map(lambda leaf: leaf.double(), split_scene(scenes, config.views, ItemRandom(0, range(2))))
    weights = list(getattr(model.denoiser, part).parameters())
    direction = [torch.randn(w.shape, generator=torch.Generator().manual_seed(1), dtype=w.dtype) for w in weights]

    scored = training.scoring.choose(split.novel, ItemRandom(0, range(2)))

    def loss() -> torch.Tensor:
        scene = model.denoiser(split.context, split.target, torch.tensor([100, 700]))
        look = training.scoring.look(scene, scored, ItemRandom(0, range(2)))
        return (look.values - scored.values).square().mean() + look.losses["distortion"]

    gradient = torch.autograd.grad(loss(), weights)
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)).item()
    step, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for w, d in zip(weights, direction, strict=True):
                w.add_(sign * step * d)
            ends.append(loss().item())
            for w, d in zip(weights, direction, strict=True):
                w.sub_(sign * step * d)
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3) and abs(slope) > 1e-3


def around(config, count: int) -> tuple[Observations, Observations]:
    """Contexts, and two views behind them."""
    scenes = models.held_out(config.dataset, views=4).build().observations(torch.arange(count))
    scenes = scenes._replace(values=2 * scenes.values - 1)
    return select_views(scenes, slice(0, 1)), select_views(scenes, slice(1, 3))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_samples_with_kept_features_are_those_of_the_plain_sampler(config, model, guidance):
    """Each batch computes the features of its contexts once; `DFM.sample` computes them in every step."""
    context, target = around(config, 2)
    params = select_views(target.params, slice(0, 1))
    sampler = SAMPLER.model_copy(update={"guidance_scale": guidance})
    found = Solver(model, 5, 3).samples(context, params, 2, sampler, keep=1)
    dfm = DFM(model.forward_model, model.denoiser, model.schedule, guide=guide)
    twice = [torch.tensor([0, 0, 1, 1]), ItemRandom(5, range(4), "evaluation sample")]
    index = twice[0]
    many = Observations(context.values[index], type(params)(*(_at(leaf, index) for leaf in context.params)))
    where = type(params)(*(_at(leaf, index) for leaf in params))
    plain = dfm.sample(many, where, (1, 3, 12, 12), sampler, twice[1])
    torch.testing.assert_close(found.images, plain.observation, atol=2e-4, rtol=1e-3)
    kept = Solver(model, 5, 3).views(all_scenes(found), params)
    torch.testing.assert_close(kept, found.images[[0, 2]], atol=1e-4, rtol=1e-3)
    assert (found.images[0] - found.images[1]).abs().max() > 1e-4


def _at(leaf, index):
    return type(leaf)(*(part[index] for part in leaf)) if isinstance(leaf, tuple) else leaf[index]


def test_guidance_of_1_is_the_conditional_model_and_others_are_not(config, model):
    context, target = around(config, 2)
    params = select_views(target.params, slice(0, 1))
    noisy = Observations(torch.randn(2, 1, 3, 12, 12, generator=torch.Generator().manual_seed(0)), params)
    dfm = DFM(model.forward_model, model.denoiser, model.schedule, guide=guide)
    with torch.no_grad():
        plain, near, far = (dfm.estimate(context, noisy, torch.tensor([500, 900]), w) for w in (1.0, 1.0 + 1e-6, 3.0))
    torch.testing.assert_close(near.observation, plain.observation, atol=1e-4, rtol=1e-3)
    assert (far.observation - plain.observation).abs().max() > 1e-3
    with torch.no_grad():
        again = model.forward_model(far.signal, params)
    torch.testing.assert_close(again, far.observation)  # what is guided is rendered


def test_a_trajectory_with_kept_features_is_that_of_recomputation(config, model):
    """Against DFM's own autoregressive sampler, which encodes every view again at every step."""
    context, target = around(config, 2)
    found = Solver(model, 5, 8).trajectory(context, target.params, SAMPLER)
    dfm = DFM(model.forward_model, model.denoiser, model.schedule, guide=guide)
    grown, images = context, []
    for view in range(2):
        params = select_views(target.params, slice(view, view + 1))
        random = ItemRandom(5, range(2), f"evaluation trajectory {view}")
        sample = dfm.sample(grown, params, (1, 3, 12, 12), SAMPLER, random)
        images.append(sample.observation)
        grown = Observations(
            torch.cat([grown.values, sample.observation], 1),
            type(params)(*(_beside(a, b) for a, b in zip(grown.params, params, strict=True))),
        )
    torch.testing.assert_close(found.images, torch.cat(images, 1), atol=2e-4, rtol=1e-3)
    assert all_scenes(found).estimate.features.maps.shape[1] == 2  # the context, and the view before the last


def _beside(a, b):
    if isinstance(a, tuple):
        return type(a)(*(torch.cat(pair, 1) for pair in zip(a, b, strict=True)))
    return torch.cat([a, b], 1)


def test_a_pixelnerf_begins_a_scene_model(settings, tmp_path):
    """Its context encoder and its field, the latter as the beginning of both."""
    alone = ("denoiser.estimate.corrected=false", "denoiser.field.pooling=mean")
    first = settings("stage=pixelnerf", *alone)
    torch.manual_seed(1)
    trained = models.build(first)
    moved(trained.denoiser)
    models.save(tmp_path / "model", first, trained.denoiser, 7)
    torch.manual_seed(2)
    begun = models.build(settings(f"init={tmp_path / 'model'}", *alone)).denoiser
    for part, source in (
        (begun.context_encoder, trained.denoiser.context_encoder),
        (begun.estimate_field, trained.denoiser.estimate_field),
        (begun.field, trained.denoiser.estimate_field),
    ):
        for key, value in part.state_dict().items():
            assert torch.equal(value, source.state_dict()[key]), key
    target = begun.target_encoder.state_dict()["network.head.linear.weight"]
    assert not torch.equal(target, trained.denoiser.target_encoder.state_dict()["network.head.linear.weight"])
    with pytest.raises(UserError, match="do not fit this denoiser"):
        models.build(settings(f"init={tmp_path / 'model'}", *alone, "denoiser.field.width=8"))


def test_a_pixelnerf_begins_a_corrected_scene_model(settings, tmp_path):
    """What the correction adds is 0: the scene is the estimate."""
    changed = ("denoiser.estimate.corrected=true",)
    first = settings("stage=pixelnerf", *changed)
    trained = models.build(first)
    moved(trained.denoiser)
    models.save(tmp_path / "model", first, trained.denoiser, 7)
    begun = models.build(settings(f"init={tmp_path / 'model'}", *changed)).denoiser
    own = begun.field.state_dict()
    assert not own["out.weight"].any() and not own["out.bias"].any() and own["beside"].any()
    context, target = around(first, 1)
    with torch.no_grad():
        scene = begun(context, target, torch.tensor([500]))
        x = 0.2 * torch.rand(1, 20, 3)
        assert torch.equal(scene(x).colour, trained.denoiser.estimate(trained.denoiser.encode(context))(x).colour)


@pytest.mark.parametrize("shape", [(12, 12), (7,)])
def test_leaving_out_rays_that_miss_the_box_changes_nothing(config, model, shape):
    """Whole images and single rays: the same numbers with a gradient, which follows every ray, and without."""
    context, target = around(config, 3)
    params = target.params if len(shape) == 2 else target.params._replace(pixels=target.params.pixels[:, :, 3, :7])
    with torch.no_grad():
        scene = model.denoiser.estimate(model.denoiser.encode(context))
        found = model.forward_model(scene, params)
    expected = model.forward_model(scene, params)
    assert found.shape == (3, 2, 3, *shape)
    torch.testing.assert_close(found, expected)
    assert (found == 1).all(2).any() and (found < 0.9).any()


def test_settings_that_do_not_fit_are_told(settings):
    with pytest.raises(ConfigError, match=r"dataset.size=16: the encoders .* are for 12 x 12"):
        models.build(settings("dataset.size=16"))


def test_the_estimate_is_seen_as_the_scene_is(config):
    """Distances, box and background of the forward model."""
    model = models.build(config)
    ours, its = model.denoiser.renderer.config, model.forward_model.renderer.config
    for key in ("near", "far", "box", "background"):
        assert getattr(ours, key) == getattr(its, key)
    assert its.box is not None and its.background == "white" and ours.samples == 6


@pytest.mark.parametrize("context", [1, 2])
def test_known_rays_show_what_the_renderer_shows(settings, context):
    """The estimate of a corrected scene is read once along the target's rays: the same images, any `t`."""
    box = '{"low": [-0.6, -0.6, -0.4], "high": [0.6, 0.6, 0.4]}'
    config = settings(
        "denoiser.estimate.corrected=true", f"forward_model.box={box}", "forward_model.min_transmittance=0.5"
    )
    model = models.build(config)
    moved(model.denoiser).eval()
    scenes = config.dataset.build().observations(torch.arange(2))
    given, target = select_views(scenes, slice(0, context)), select_views(scenes, slice(2, 3))
    contexts = torch.tensor([1, 0, 1])
    with torch.no_grad():
        denoiser = CachedDenoiser(model, model.denoiser.encode(given), target.params, contexts)
        assert isinstance(denoiser.view, KnownView)
        known = denoiser.view.known
        assert known.rays.chosen is not None and len(known.points) == 3
        exact = models.SceneView(VolumeRenderer(config.forward_model.settings.model_copy(
            update={"min_transmittance": 0.0}
        )))  # fmt: skip
        params = select_items(target.params, contexts)
        seen = []
        for t in (0, 700):
            noisy = Observations(torch.randn(3, 1, 3, 12, 12, generator=torch.Generator().manual_seed(t)), params)
            scene = denoiser(given, noisy, torch.full((3,), t))
            seen.append(denoiser.view(scene, params))
            torch.testing.assert_close(seen[-1], exact(scene, params))
            estimate = exact(scene.estimate, params)
            assert (seen[-1] - estimate).abs().max() > 1e-2  # the correction is there
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def test_a_corrected_scene_and_its_estimate_are_looked_at_together(settings):
    """Both where the estimate says, each as it is rendered alone."""
    config = settings("denoiser.estimate.corrected=true", "score.estimate=1")
    model = models.build(config)
    moved(model.denoiser)
    training = Training(config, model)
    split = split_scene(config.dataset.build().observations(torch.arange(2)), config.views, ItemRandom(0, range(2)))
    scene = model.denoiser(split.context, split.target, torch.tensor([100, 600]))
    scored = training.scoring.choose(split.target, ItemRandom(0, range(2)))
    look = training.scoring.look(scene, scored, ItemRandom(0, range(2)))
    renderer, random = model.forward_model.renderer, ItemRandom(0, range(2)).stream("rays")
    for field, found in ((scene.field, look.values), (scene.estimate, None)):
        seen = 2 * renderer(ProposedField(field, (scene.estimate,)), scored.params) - 1
        drawn = 2 * renderer.render(ProposedField(field, (scene.estimate,)), scored.params, random).colour - 1
        assert (drawn - seen).abs().max() > 1e-3  # the places of samples are random
        if found is not None:
            torch.testing.assert_close(found, drawn)
        else:
            torch.testing.assert_close(look.losses["estimate"], (drawn - scored.values).square().mean())


def test_what_cannot_be_known_is_rendered(settings):
    """Fields by themselves, guided ones, and rays in chunks."""
    corrected, plain = "denoiser.estimate.corrected=true", "denoiser.estimate.corrected=false"
    for changed, scale, known in (
        ((corrected,), 1.0, True), ((plain,), 1.0, False), ((corrected,), 2.0, False),
        ((corrected, "forward_model.chunk_points=64"), 1.0, False),
    ):  # fmt: skip
        config = settings(*changed)
        solver = Solver(models.build(config), 0, 8)
        scenes = config.dataset.build().observations(torch.arange(2))
        given, target = select_views(scenes, slice(0, 1)), select_views(scenes, slice(2, 3))
        with torch.no_grad():
            features = solver.encode(given, scale)
            denoiser = CachedDenoiser(solver.model, features, target.params, torch.arange(2))
        assert isinstance(denoiser.view, KnownView) is known
