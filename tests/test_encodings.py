"""Gradient-origin embeddings through each representation of a scene: the encoder and the triplane, which know nothing
of each other.
"""

from __future__ import annotations

import pytest
import torch
from goembed_core import plugins
from goembed_core.protocols import Observations, OriginPullback
from goembed_core.trees import named_leaves, select_items, select_views, tree_map
from goembed_encoder.config import EncodingConfig
from goembed_encoder.encoder import GOEmbed
from torch import nn

SMALL = {
    "renderer": {"samples": 10, "proposal_samples": []},
    "decoder": {"hidden_size": 8},
}
GRIDS = {
    "triplane": {"resolution": 6, "channels": 3},
    "voxels": {"resolution": 4, "channels": 3},
    "factored": {"resolution": 6, "channels": 2},
}
NETWORK = {"siren": {"hidden_size": 6, "channels": 4}}


class Plain(nn.Module):
    """A forward model without its shortcut."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, signal, params):
        return self.model(signal, params)

    def origin(self, batch_size, device):
        return self.model.origin(batch_size, device)


def scene(name: str, dtype: torch.dtype, **settings):
    """A forward model, and observations of two signals that are not at its origin."""
    torch.manual_seed(0)
    model = plugins.build("forward-model", name, SMALL | (GRIDS | NETWORK)[name] | settings).to(dtype)
    signal, params = model.example(2, torch.Generator().manual_seed(0))
    signal, params = (tree_map(lambda leaf: leaf.to(dtype), tree) for tree in (signal, params))
    with torch.no_grad():
        return model, Observations(model(signal, params), params)


def _holds(model, seen):
    return model.origin_pullback(model.origin(2, torch.device("cpu")), seen.params) is not None


def close(found, expected, tolerance):
    for name, leaf in named_leaves(expected, "signal").items():
        ours = named_leaves(found, "signal")[name]
        assert leaf.any(), f"the gradient at {name} is zero"
        assert (ours - leaf).abs().max() <= tolerance * leaf.abs().max(), name


@pytest.mark.parametrize("combine", [{}, {"combine": "product"}, {"combine": "sum"}, {"combine": "concat"}], ids=str)
@pytest.mark.parametrize("name", GRIDS)
def test_the_shortcut_of_grids_is_autograd(name, combine):
    kinds = {"triplane": ("sum", "concat"), "voxels": (), "factored": ("sum", "product")}[name]
    if combine and combine["combine"] not in kinds:
        pytest.skip(f"{name} does not combine by {combine['combine']}")
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        model, seen = scene(name, dtype, **combine)
        assert isinstance(model, OriginPullback) and _holds(model, seen)
        short, long = (GOEmbed(m, EncodingConfig(scale="none")).to(dtype) for m in (model, Plain(model)))
        with torch.no_grad():
            close(short(seen), long(seen), tolerance)
        slopes = []
        for encoder in (short, long):
            score = sum((leaf**2).sum() for leaf in named_leaves(encoder(seen), "").values())
            slopes.append(torch.autograd.grad(score, list(model.parameters()), allow_unused=True))
        for ours, theirs in zip(*slopes, strict=True):
            assert (ours is None) == (theirs is None)
            if theirs is not None:
                assert (ours - theirs).abs().max() <= 10 * tolerance * theirs.abs().max()


def test_there_is_no_shortcut_where_places_are_known_or_a_network_is_the_signal():
    for name, settings in {"voxels": {"decoder": {"position_frequencies": 2}}, "siren": {}}.items():
        model, seen = scene(name, torch.float64, **settings)
        assert not _holds(model, seen)
        close(*(GOEmbed(m, EncodingConfig(scale="none")).double()(seen) for m in (model, Plain(model))), 0.0)


@pytest.mark.parametrize("name", GRIDS | NETWORK)
@pytest.mark.parametrize("steps", [1, 3])
def test_the_laws_hold_through_each(name, steps):
    model, seen = scene(name, torch.float64)
    encoder = GOEmbed(model, EncodingConfig(steps=steps, gain=0.1, scale_dims=(1, 2))).double()
    encoder(seen)  # measures the scale
    whole = encoder(seen)
    close(encoder(select_items(seen, slice(1))), tree_map(lambda leaf: leaf[:1], whole), 1e-9)
    close(encoder(select_views(seen, [1, 0])), whole, 1e-9)
    none = encoder(select_views(seen, slice(0)))
    assert not any(leaf.any() for leaf in named_leaves(none, "").values())
    parts = GOEmbed(model, EncodingConfig(steps=steps, gain=0.1, scale_dims=(1, 2), chunk_views=1)).double()
    parts.load_state_dict(encoder.state_dict())
    close(parts(seen), whole, 1e-9)


@pytest.mark.parametrize("name", GRIDS | NETWORK)
def test_gradcheck_and_gradgradcheck_through_each(name):
    model, seen = scene(name, torch.float64)
    seen = select_items(seen, slice(1))
    encoder = GOEmbed(model, EncodingConfig()).double()
    encoder(seen)
    weights = [weight for weight in model.decode.decoder.parameters() if weight.requires_grad]

    def encode(values, *_):
        return tuple(named_leaves(encoder(seen._replace(values=values)), "signal").values())

    values = seen.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(encode, (values, *weights), fast_mode=True, check_undefined_grad=False)
    assert torch.autograd.gradgradcheck(encode, (values, *weights), fast_mode=True, check_undefined_grad=False)
