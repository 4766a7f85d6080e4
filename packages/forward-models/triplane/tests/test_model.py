"""Representations as forward models, and the gradient at their origin."""

from __future__ import annotations

import pytest
import torch
from goembed_core.config import ConfigError, resolve_model
from goembed_core.errors import UserError
from goembed_core.protocols import ForwardModel, GradientOrigin
from goembed_core.trees import named_leaves, tree_map
from goembed_nerf_renderer.fields import RadianceField
from goembed_triplane.config import (
    DecoderConfig,
    FactoredModelConfig,
    FieldRendererConfig,
    SirenModelConfig,
    TriplaneModelConfig,
    VoxelsModelConfig,
)
from goembed_triplane.decoders import Decoder
from goembed_triplane.model import SceneModel
from torch import nn

EVEN = FieldRendererConfig(samples=12, background="white")
MODELS = {
    "triplane": TriplaneModelConfig(resolution=6, channels=3, renderer=EVEN),
    "concat": TriplaneModelConfig(resolution=6, channels=2, combine="concat", renderer=EVEN),
    "voxels": VoxelsModelConfig(resolution=5, channels=3, renderer=EVEN),
    "product": FactoredModelConfig(resolution=6, channels=2, renderer=EVEN),
    "sum": FactoredModelConfig(resolution=6, channels=2, combine="sum", renderer=EVEN),
    "siren": SirenModelConfig(hidden_size=8, renderer=EVEN),
}
GRIDS = [name for name in MODELS if name != "siren"]
CPU = torch.device("cpu")


def build(name, **update):
    torch.manual_seed(0)
    return SceneModel(MODELS[name].model_copy(update=update))


def setting(name, dtype=torch.float32, **update):
    """A model, its origin, what two objects look like, and from where."""
    model = build(name, **update).to(dtype)
    signal, params = model.example(2, torch.Generator().manual_seed(0))
    signal, params = (tree_map(lambda leaf: leaf.to(dtype), tree) for tree in (signal, params))
    origin = tree_map(lambda leaf: leaf.requires_grad_(), model.origin(2, CPU))
    with torch.no_grad():
        values = model(signal, params)
    return model, origin, values, params


def encoded(model, origin, values, params):
    """`∇_{ζ0} ||O − forward(ζ0, φ)||²`, by autograd."""
    error = (model(origin, params) - values).square().flatten(1).mean(1).sum()
    return torch.autograd.grad(error, list(named_leaves(origin, "signal").values()), create_graph=True)


@pytest.mark.parametrize("name", MODELS)
def test_the_error_pulls_on_every_leaf_of_the_origin(name):
    model, origin, values, params = setting(name)
    assert isinstance(model, ForwardModel) and isinstance(model, GradientOrigin)
    assert isinstance(model.decode(origin), RadianceField)
    for leaf in encoded(model, origin, values, params):
        assert leaf.flatten(1).abs().amax(1).min() > 1e-7


@pytest.mark.parametrize("name", MODELS)
def test_a_step_towards_the_observations_brings_the_renders_nearer(name):
    model, origin, values, params = setting(name)
    before = (model(origin, params) - values).square().mean()
    slopes = encoded(model, origin, values, params)
    step = (
        0.05 * before / sum(slope.square().sum() for slope in slopes)
    )  # as much of the error would go, were it linear
    leaves = iter(slopes)
    after = tree_map(lambda leaf: leaf - step * next(leaves), origin)
    assert (model(after, params) - values).square().mean() < 0.99 * before


@pytest.mark.parametrize("name", MODELS)
def test_the_encoding_trains_the_decoder(name):
    """What a loss of the encoding pulls on the decoder's weights is what finite differences say."""
    model, origin, values, params = setting(name, torch.float64)
    weight = model.decode.decoder.network[0].weight
    generator = torch.Generator().manual_seed(1)
    way = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    probes = [
        torch.randn(leaf.shape, generator=generator, dtype=torch.float64) for leaf in named_leaves(origin, "s").values()
    ]

    def loss():
        return sum((g * p).sum() for g, p in zip(encoded(model, origin, values, params), probes, strict=True))

    (slope,) = torch.autograd.grad(loss(), weight)
    step = 1e-5
    ends = []
    for sign in (1, -1):
        weight.data += sign * step * way
        ends.append(loss().item())
        weight.data -= sign * step * way
    assert (slope * way).sum().item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("harmonics", [0, 1])
def test_the_pullback_at_the_origin_is_that_of_autograd(name, dtype, error, harmonics):
    model, origin, values, params = setting(name, dtype, decoder=DecoderConfig(harmonics=harmonics))
    expected = encoded(model, origin, values, params)
    view = model.origin_pullback(origin, params)
    assert torch.allclose(view.values, model(origin, params), atol=1e-6)
    found = view.pullback(2 * (view.values - values) / values[0].numel())
    found = list(named_leaves(found, "signal").values())
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype and (a - b).abs().max() < error * b.abs().max()
    weights = list(model.decode.decoder.parameters())
    slopes = [
        torch.autograd.grad(sum(g.square().sum() for g in way), weights, allow_unused=True) for way in (found, expected)
    ]
    for a, b in zip(*slopes, strict=True):
        assert (a is None or not a.any()) == (b is None or not b.any())
        assert b is None or (a - b).abs().max() <= 10 * error * b.abs().max()


def test_the_pullback_records_nothing_where_nothing_is_recorded():
    model, origin, values, params = setting("triplane")
    with torch.no_grad():
        view = model.origin_pullback(origin, params)
        found = view.pullback(view.values - values)
    assert not view.values.requires_grad and not found.requires_grad and found.any()


@pytest.mark.parametrize("name", MODELS)
def test_a_learned_origin_begins_at_the_representation_s_own_and_is_one_for_all(name):
    fixed, learned = build(name), build(name, learned_origin=True)
    leaves = [named_leaves(model.origin(3, CPU), "signal").values() for model in (fixed, learned)]
    for one, other in zip(*leaves, strict=True):
        assert torch.equal(one, other) and other.requires_grad and not one.requires_grad
    with torch.no_grad():
        for leaf in learned.learned_origin:
            leaf.add_(torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0)))
    again = build(name, learned_origin=True)
    again.load_state_dict(learned.state_dict())
    for one, other in zip(*(named_leaves(m.origin(2, CPU), "s").values() for m in (learned, again)), strict=True):
        assert torch.equal(one, other) and torch.equal(one[0], one[1])
    names = {name for name, _ in learned.named_parameters()} - {name for name, _ in fixed.named_parameters()}
    assert len(names) == len(list(learned.learned_origin)) and all(n.startswith("learned_origin.") for n in names)


@pytest.mark.parametrize("name", ["voxels", "product"])
def test_an_encoding_pulls_on_a_learned_origin_as_finite_differences_say(name):
    """Where the gradient is taken moves with the origin: a second derivative, which the shortcut would not know."""
    model = build(name, learned_origin=True).double()
    signal, params = (tree_map(lambda leaf: leaf.double(), tree) for tree in setting(name)[0].example(
        2, torch.Generator().manual_seed(0)
    ))  # fmt: skip
    values, leaf = model(signal, params).detach(), model.learned_origin[0]
    way = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss():
        found = encoded(model, model.origin(2, CPU), values, params)
        return sum(slope.square().sum() for slope in found)

    (slope,) = torch.autograd.grad(loss(), leaf)
    step, ends = 1e-5, []
    for sign in (1, -1):
        leaf.data += sign * step * way
        ends.append(loss().item())
        leaf.data -= sign * step * way
    assert (slope * way).sum().item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_there_is_no_pullback_where_it_does_not_hold():
    for name, update in (
        ("siren", {}),
        ("triplane", {"decoder": DecoderConfig(position_frequencies=2)}),
        ("voxels", {"renderer": FieldRendererConfig(chunk_points=100)}),
        ("voxels", {"learned_origin": True}),
    ):
        model, origin, _, params = setting(name, **update)
        assert model.origin_pullback(origin, params) is None
    model, origin, _, params = setting("triplane")
    with pytest.raises(UserError, match=r"\(1, 3, 3, 6, 6\): expected \(2, 3, 3, 6, 6\)"):
        model.origin_pullback(origin[:1], params)


def test_the_decoder_s_jacobian_is_that_of_finite_differences():
    decoder = Decoder(DecoderConfig(hidden_size=8), 3).double()
    feature = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = decoder.jacobian(feature)
    assert found.shape == (4, 3)
    for c in range(3):
        step = 1e-6 * torch.eye(3, dtype=torch.float64)[c]
        assert torch.allclose(found[:, c], (decoder(feature + step) - decoder(feature - step)) / 2e-6, atol=1e-8)
    with pytest.raises(ValueError, match="position_frequencies=3 has a Jacobian for each place"):
        Decoder(DecoderConfig(position_frequencies=3), 3).jacobian(feature)


def test_nothing_is_outside_of_the_box():
    model = build("triplane", box=MODELS["triplane"].box.model_copy(update={"low": (0.0, -1.0, -1.0)}))
    points = torch.tensor([[[0.5, 0.0, 0.0], [-0.1, 0.0, 0.0], [0.5, 1.1, 0.0]]])
    samples = model.decode(model.origin(1, CPU))(points, None)
    assert samples.density[0, 0] > 0 and not samples.density[0, 1:].any()


def test_the_origin_is_a_fog_of_the_density_that_was_asked_for():
    model = build("voxels", decoder=DecoderConfig(density_bias=-1.0, density_scale=5.0))
    last = model.decode.decoder.network[-1]
    nn.init.zeros_(last.bias)
    nn.init.zeros_(last.weight)
    density = model.decode(model.origin(1, CPU))(torch.zeros(1, 1, 3), None).density
    assert density.item() == pytest.approx(5 * 0.31326, rel=1e-4)


def test_relu_without_bias_has_no_gradient_at_zero_and_is_refused():
    """The trap, and its refusal."""
    network = nn.Sequential(nn.Linear(3, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))
    feature = torch.zeros(5, 3, requires_grad=True)
    assert not torch.autograd.grad(network(feature).sum(), feature)[0].any()
    with pytest.raises(UserError, match="relu has a kink at zero, where the features of an origin are"):
        resolve_model(TriplaneModelConfig, ["decoder.activation=relu"])


WRONG = {
    'renderer.box={"low":[0,0,0],"high":[1,1,1]}': "rays end at the representation's box; give box instead",
    "decoder.harmonics=1 renderer.view_dependent=false": "needs the directions of the rays",
    "combine=product": "'sum' or 'concat'",
    "resolution=0": "resolution",
    "decoder.density_scale=0": "density_scale",
}


@pytest.mark.parametrize("settings", WRONG)
def test_what_cannot_be_used_is_refused(settings):
    with pytest.raises(ConfigError, match=WRONG[settings]):
        resolve_model(TriplaneModelConfig, settings.split())


def test_a_setting_of_the_renderer_leaves_it_without_proposals():
    assert resolve_model(VoxelsModelConfig, ["renderer.samples=7"]).config.renderer.proposal_samples == ()
    assert VoxelsModelConfig(renderer={"samples": 7}).renderer.proposal_samples == ()
