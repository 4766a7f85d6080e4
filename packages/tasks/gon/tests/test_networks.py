"""The networks: their sizes, what no other image may change, what the variational one minimises."""

from __future__ import annotations

import math

import pytest
import torch
from goembed_core.config import ComponentConfig
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_gon import model as models
from goembed_gon.baseline import ImageEncoder, mirrored, num_parameters
from goembed_gon.config import GONConfig, ImageDecoderConfig, SirenDecoderConfig
from goembed_gon.decoders import ImageDecoder, SirenDecoder
from goembed_gon.evaluation import Gaussian, slerp

DECODERS = [
    ImageDecoder(ImageDecoderConfig()),
    ImageDecoder(ImageDecoderConfig(variational=True, norm="group", channels=3)),
    SirenDecoder(SirenDecoderConfig()),
]


def solvers(**settings):
    torch.manual_seed(0)
    config = GONConfig(decoder=ComponentConfig(name="image-decoder", latent=8, width=4, **settings))
    return models.build(config.model_copy(update={"decoder": config.decoder.of_kind("forward-model")}))


@pytest.mark.parametrize("decoder", DECODERS, ids=["images", "variational", "sines"])
def test_the_baseline_has_at_least_twice_the_parameters(decoder):
    encoder = ImageEncoder(mirrored(decoder))
    assert num_parameters(decoder) <= num_parameters(encoder) <= 1.2 * num_parameters(decoder)


@pytest.mark.parametrize("settings", [{}, {"norm": "group"}, {"variational": True}], ids=str)
def test_no_image_changes_what_another_is_encoded_as(settings):
    gon, _ = solvers(**settings)
    images = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    gon.encode(images)  # measures the scale
    assert gon.training
    whole = gon.encode(images)
    assert torch.allclose(gon.encode(images[2:3]), whole[2:3], atol=1e-5 * whole.abs().max().item())


def test_both_decoders_begin_alike_and_are_two():
    gon, autoencoder = solvers()
    pairs = list(zip(gon.decoder.parameters(), autoencoder.decoder.parameters(), strict=True))
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)


def test_the_decoders_variance_is_kept_from_layer_to_layer():
    torch.manual_seed(0)
    decoder = ImageDecoder(ImageDecoderConfig(latent=64, width=32))
    logits = decoder.logits(torch.randn(64, 64))
    assert 0.2 < logits.std() < 1.5


def test_the_variational_loss_is_the_evidence_bound():
    gon, _ = solvers(variational=True)
    images = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    gon.encode(images)
    random = ItemRandom(0, range(5))
    losses = gon.losses(images, random, kl_weight=2.0).losses
    signal = gon._signal(images)
    mean, log_variance = gon.decoder.head.mean_of(signal), gon.decoder.head.log_variance_of(signal)
    prior = torch.distributions.Normal(torch.zeros(8), torch.ones(8))
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
    assert losses["divergence"].item() == pytest.approx(2 * divergence.item() / 1024, rel=1e-4)
    z = mean + posterior.scale * random.stream("latent").randn(8)
    shown = torch.sigmoid(gon.decoder.logits(z))
    share = (images + 1) / 2
    expected = -(share * shown.log() + (1 - share) * (1 - shown).log()).mean()
    assert losses["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_interpolations_keep_to_the_sphere():
    a, b = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0, 1.0, 0]])
    walk = slerp(a, b, torch.linspace(0, 1, 5))[0]
    assert torch.allclose(walk.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(walk[[0, 4]], torch.cat([a, b]), atol=1e-5)
    assert torch.allclose(walk[2], torch.tensor([math.sqrt(0.5), math.sqrt(0.5), 0.0]), atol=1e-5)


def test_a_gaussian_has_the_covariance_that_it_was_fitted_to():
    root = torch.tensor([[2.0, 0.0], [1.0, 0.5]])
    samples = Gaussian(torch.tensor([1.0, -1.0]), root).sample(ItemRandom(0, range(20_000)))
    assert torch.allclose(torch.cov(samples.mT), root @ root.mT, atol=0.1)
    assert torch.allclose(samples.mean(0), torch.tensor([1.0, -1.0]), atol=0.05)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"a signal of shape \(2, 3\), expected \(batch, latent=32\)"):
        DECODERS[0](torch.zeros(2, 3), ())
