"""What an encoder is given and refuses, what it keeps, and how it computes."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.plugins import build
from goembed_core.protocols import Observations
from goembed_core.trees import named_leaves, select_views, tree_map
from goembed_encoder.config import EncodingConfig, GOEmbedConfig
from goembed_encoder.encoder import GOEmbed
from pydantic import ValidationError


def test_a_signal_of_two_leaves_gives_an_encoding_of_two(worlds):
    model = worlds.Network()
    seen = worlds.observed(model, dtype=torch.float32)
    encoding = GOEmbed(model, EncodingConfig())(seen)
    assert type(encoding) is worlds.Parts
    assert encoding.shape.shape == (3, 4, 2, 2) and encoding.tone.shape == (3,)


def test_steps_lower_the_error(worlds):
    model = worlds.Linear(dim=4, observed=3)
    seen = worlds.observed(model, 8)
    seen = Observations(seen.values / 4, worlds.Rows(seen.params.matrix / 4))
    errors = []
    for steps in (1, 5, 50):
        signal = GOEmbed(model, EncodingConfig(scale="none", steps=steps, views="mean"))(seen)
        errors.append((model(signal, seen.params) - seen.values).square().mean().item())
    assert errors[2] < 0.5 * errors[1] < 0.5 * errors[0]


def test_from_another_origin_the_signal_is_origin_and_encoding(worlds):
    class Shifted(worlds.Linear):
        def __init__(self):
            super().__init__()
            self.start = torch.nn.Parameter(torch.arange(6.0))

        def origin(self, batch_size, device):
            return self.start.to(device).expand(batch_size, -1)

    model = Shifted().double()
    seen = worlds.observed(model)
    encoder = GOEmbed(model, EncodingConfig(scale="none", steps=2)).double()
    signal, encoding = encoder.signal(seen), encoder(seen)
    assert torch.allclose(signal, encoding + torch.arange(6.0), atol=1e-12)
    none = encoder.signal(select_views(seen, slice(0)))
    assert torch.equal(none, torch.arange(6.0).double().expand(3, -1))
    (slope,) = torch.autograd.grad(encoding.square().sum(), model.start)
    assert slope.any()  # an origin may be learned


def test_training_goes_through_the_encoding_unless_it_is_detached(worlds):
    slopes = {}
    for detach in (False, True):
        model = worlds.Network().double()
        seen = worlds.observed(model)
        encoder = GOEmbed(model, EncodingConfig(detach=detach, steps=2)).double()
        encoding = encoder(seen)
        encoder.zero_grad()
        sum((leaf**3).sum() for leaf in encoding).backward()
        slopes[detach] = [model.first.weight.grad, encoder.scale.gain.grad]
    assert slopes[True][0] is None and slopes[False][0].any()
    assert slopes[True][1].all() and slopes[False][1].all()  # the gains learn either way


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_recorded_where_nothing_is_wanted(worlds, voxels, mode):
    model = voxels.Voxels()
    seen = worlds.observed(model, dtype=torch.float32)
    encoder = GOEmbed(model, EncodingConfig(steps=2))
    expected = encoder(seen)
    assert expected.requires_grad
    with mode():
        copied = Observations(seen.values.clone(), tree_map(torch.clone, seen.params))
        found = encoder(copied)
    assert not found.requires_grad
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_frozen_and_without_weights_it_still_encodes(worlds, voxels):
    model = voxels.Voxels().requires_grad_(False)
    seen = worlds.observed(model, dtype=torch.float32)
    assert GOEmbed(model, EncodingConfig(scale="none", steps=2))(seen).any()


def test_it_computes_in_float32_whatever_autocast_says(worlds):
    model = worlds.Network()
    seen = worlds.observed(model, dtype=torch.float32)
    encoder = GOEmbed(model, EncodingConfig(steps=2, chunk_views=1))
    expected = encoder(seen)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(seen)
        halves = encoder(seen._replace(values=seen.values.bfloat16()))
    for name, leaf in named_leaves(expected, "").items():
        assert named_leaves(found, "")[name].dtype == torch.float32
        assert torch.equal(named_leaves(found, "")[name], leaf)
        assert named_leaves(halves, "")[name].dtype == torch.float32
    expected.shape.square().sum().backward()
    slope = model.first.weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        encoder(seen).shape.square().sum().backward()
    assert torch.equal(model.first.weight.grad, slope)  # the second pass over the chunks, too


def test_timesteps_act_on_the_scale(worlds):
    model = worlds.Linear()
    seen = worlds.observed(model, 4, dtype=torch.float32)
    encoder = GOEmbed(model, EncodingConfig(timesteps=1000, steps=2))
    clean = encoder(seen)
    times = torch.tensor([0, 10, 500, 999])
    assert torch.equal(encoder(seen, times), clean)  # nothing is known of time at first
    torch.nn.init.normal_(encoder.scale.of_time.weight, generator=torch.Generator().manual_seed(0))
    noisy = encoder(seen, times)
    assert not torch.allclose(noisy, clean, rtol=0.01)
    assert torch.allclose(encoder(seen, times.flip(0))[3], encoder(seen, torch.zeros(4))[3])
    assert torch.equal(encoder(seen), clean)


def test_a_config_builds_it():
    pytest.importorskip("goembed_stylegan_synth", reason="a forward model with settings")
    encoder = build("encoder", "goembed", {"forward_model": {"name": "stylegan", "resolution": 16}, "steps": 2})
    assert isinstance(encoder, GOEmbed) and encoder.forward_model.resolution == 16
    assert isinstance(encoder.config, GOEmbedConfig)
    observations, timestep = encoder.example(2, torch.Generator().manual_seed(0))
    assert timestep is None and encoder(observations).shape == (2, encoder.forward_model.w_dim)
    with pytest.raises(ValidationError, match="timesteps=10 with scale=none: time acts on the scale"):
        EncodingConfig(timesteps=10, scale="none")


def test_what_does_not_fit_is_refused(worlds):
    model = worlds.Linear()
    seen = worlds.observed(model, dtype=torch.float32)
    encoder = GOEmbed(model, EncodingConfig())
    refused = {
        r"no method origin\(batch_size, device\)": lambda: GOEmbed(torch.nn.Linear(2, 2), EncodingConfig()),
        r"observations of shape \(5,\), expected \(batch, views, ...\)": lambda: encoder(
            Observations(torch.zeros(5), ())
        ),
        r"2 observations of each signal, and φ of 1: expected as many": lambda: encoder(
            seen._replace(params=select_views(seen.params, slice(1)))
        ),
        r"gives observations of shape \(3, 2, 3\), and those to encode have \(3, 2, 1\)": lambda: encoder(
            seen._replace(values=seen.values[..., :1])
        ),
        r"a timestep was given, but the scale knows clean observations alone: set timesteps": lambda: encoder(
            seen, torch.zeros(3)
        ),
        r"a timestep of shape \(2,\) for 3 signals, expected \(3,\)": lambda: encoder(seen, torch.zeros(2)),
        r"a mask of shape \(3, 2, 2\) for observations of shape \(3, 2, 3\)": lambda: encoder(
            seen, mask=torch.ones(3, 2, 2)
        ),
        r"draw was given without random": lambda: encoder(seen, draw=lambda o, r, step: o),
        r"split gives parts of 9 numbers together, and the observations have 18": lambda: encoder(
            seen, split=lambda o: [select_views(o, slice(1))]
        ),
    }
    for words, call in refused.items():
        with pytest.raises(UserError, match=words):
            call()
