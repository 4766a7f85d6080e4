"""The spaces in which the networks speak."""

from __future__ import annotations

import pytest
import torch
from goembed_core.config import resolve
from goembed_core.errors import UserError
from goembed_gan_inversion import model as models
from goembed_gan_inversion.config import LatentConfig
from goembed_gan_inversion.latents import LatentSpace

from .conftest import TINY


def space(model, name: str, **settings) -> LatentSpace:
    return LatentSpace(model.forward_model, LatentConfig(space=name, **settings))


def test_w_in_standard_deviations(model):
    forward_model, w = model.forward_model, space(model, "w")
    zero, one = w.latent(torch.zeros(6, w.size)), w.latent(torch.ones(6, w.size))
    assert torch.equal(zero, forward_model.w_avg.expand(6, -1))
    assert torch.allclose(one - zero, forward_model.w_std.expand(6, -1), atol=1e-6)


def test_one_w_a_layer(model):
    layers = space(model, "w+")
    signal = torch.zeros(2, model.forward_model.num_ws, model.forward_model.w_dim)
    signal[:, 3] = 1
    latent = layers.latent(signal.flatten(1))
    assert layers.size == signal[0].numel() and latent.shape == signal.shape
    assert torch.equal(latent[:, 0], model.forward_model.w_avg.expand(2, -1))
    assert torch.allclose(latent[:, 3], model.forward_model.w_avg + model.forward_model.w_std)


def test_z_counts_by_its_direction_and_its_length_is_held(model):
    z, signal = space(model, "z", norm_penalty=0.5), torch.randn(5, 64)
    assert torch.allclose(z.latent(signal), model.forward_model.mapping(signal, 1.0), atol=1e-6)
    assert torch.allclose(z.latent(signal), z.latent(3 * signal), atol=1e-4)
    unit = signal / signal.square().mean(1, keepdim=True).sqrt()
    assert z.penalties(unit)["norm"].item() == pytest.approx(0, abs=1e-10)
    assert z.penalties(2 * unit)["norm"].item() == pytest.approx(0.5 * 9, rel=1e-5)
    assert space(model, "w").penalties(signal) == {}


def test_an_offset_from_the_w_of_z(model):
    both = space(model, "z+", offset_penalty=0.5)
    assert both.size == 128
    z, offset = torch.randn(5, 64), torch.randn(5, 64)
    expected = model.forward_model.mapping(z, 1.0) + model.forward_model.w_std * offset
    assert torch.allclose(both.latent(torch.cat([z, offset], 1)), expected, atol=1e-5)
    penalties = both.penalties(torch.cat([z, offset], 1))
    assert penalties["offset"].item() == pytest.approx(0.5 * offset.square().mean().item(), rel=1e-5)
    assert penalties.keys() == {"norm", "offset"}


def test_the_space_is_the_forward_model_of_dfm_and_trains_with_its_penalties(config, model):
    assert model.dfm.forward_model is model.space is model.regressor.space
    signal, boxes = model.space.example(3, torch.Generator().manual_seed(0))
    expected = model.forward_model(model.space.latent(signal), boxes)
    assert torch.equal(model.space(signal, boxes), expected) and expected.shape == (3, 2, 1, 32, 32)
    assert model.dfm.regularise(signal, {}, {"target": expected}).keys() == {"norm"}


def test_w_keeps_its_digits_under_autocast(model):
    z = torch.randn(4, 64)
    alone = model.space.latent(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.space.latent(z.bfloat16().float()), model.space.latent(z.bfloat16()))
        assert torch.equal(model.space.latent(z), alone)


def test_a_head_that_starts_with_no_direction_is_refused():
    config = resolve("gan_inversion", [*TINY, "denoiser.head_std=0"]).config
    with pytest.raises(UserError, match=r"denoiser\.head_std=0: .*no direction.*say denoiser\.head_std=0\.02"):
        models.build(config)
    assert models.build(resolve("gan_inversion", [*TINY, "denoiser.head_std=0", "latent.space=w"]).config)
