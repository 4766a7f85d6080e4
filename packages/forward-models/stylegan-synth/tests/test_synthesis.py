"""The forward model: what is seen through a box, of which latents, at which resolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from goembed_core.errors import UserError
from goembed_core.protocols import ForwardModel, GradientOrigin
from goembed_core.randomness import ItemRandom
from goembed_stylegan_synth.config import SynthesisConfig
from goembed_stylegan_synth.synthesis import PatchBox, StyleGANSynthesis, box_mask, full_box, random_boxes


@pytest.fixture
def model(weights) -> StyleGANSynthesis:
    return StyleGANSynthesis(SynthesisConfig(weights=weights))


def box(left: float, top: float, width: float, height: float) -> PatchBox:
    return PatchBox(*(torch.tensor([[value]]) for value in (left, top, width, height)))


def test_is_a_forward_model(model):
    assert isinstance(model, ForwardModel) and isinstance(model, GradientOrigin)
    signal, params = model.example(3, torch.Generator().manual_seed(0))
    observation = model(signal, params)
    assert observation.shape == (3, 2, 3, 16, 16) and observation.dtype == torch.float32
    again, _ = model.example(3, torch.Generator().manual_seed(0))
    other, _ = model.example(3, torch.Generator().manual_seed(1))
    assert torch.equal(signal, again) and not torch.equal(signal, other)


def test_full_box_shows_the_generated_image(model, generator):
    w = torch.randn(2, 5)
    image = generator.synthesis(generator.broadcast(w))
    torch.testing.assert_close(model(w, full_box(2, 1))[:, 0], image)
    torch.testing.assert_close(model.synthesize(w), image)


def test_outside_of_the_box_is_mid_grey(model):
    w = torch.randn(1, 5)
    image = model.synthesize(w)[0]
    seen = model(w, box(0.25, 0.5, 0.5, 0.125))[0, 0]
    torch.testing.assert_close(seen[:, 8:10, 4:12], image[:, 8:10, 4:12])
    seen[:, 8:10, 4:12] = 0
    assert (seen == 0).all()


def test_a_box_that_is_not_square(model):
    mask = box_mask(box(0.0, 0.5, 1.0, 0.25), 8)[0, 0, 0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:6, :] = True
    assert torch.equal(mask, expected)


def test_a_pixel_is_seen_when_its_centre_is():
    columns = box_mask(box(0.13, 0.0, 0.25, 1.0), 8)[0, 0, 0, 0]
    assert columns.nonzero()[:, 0].tolist() == [1, 2]  # centres 0.1875 and 0.3125 of [0.13, 0.38)
    half_open = box_mask(box(0.0625, 0.0, 0.125, 1.0), 8)[0, 0, 0, 0]
    assert half_open.nonzero()[:, 0].tolist() == [0]  # centre 0.0625 is in, 0.1875 is not
    assert not box_mask(box(0.5, 0.5, 0.0, 0.0), 8).any()


def test_views_share_one_synthesis(model, monkeypatch):
    calls = []
    inner = model.generator.synthesis.forward
    monkeypatch.setattr(model.generator.synthesis, "forward", lambda *args: calls.append(len(args[0])) or inner(*args))
    params = model.random_boxes(ItemRandom(0, range(2)), 0.2, 0.8, num_views=7)
    assert model(torch.randn(2, 5), params).shape == (2, 7, 3, 16, 16)
    assert calls == [2]


def test_one_w_for_all_layers_or_one_for_each(model):
    w = torch.randn(2, 5)
    plus = w[:, None].repeat(1, model.num_ws, 1)
    torch.testing.assert_close(model(plus, full_box(2, 1)), model(w, full_box(2, 1)))
    plus[:, -1] += 1
    assert not torch.allclose(model(plus, full_box(2, 1)), model(w, full_box(2, 1)))


def test_latents_of_another_shape_are_refused(model):
    with pytest.raises(UserError, match=r"shape \(2, 4\): expected \(batch, 5\) \[W\] or \(batch, 6, 5\) \[W\+\]"):
        model(torch.randn(2, 4), full_box(2, 1))


def test_lower_resolution_is_the_average(weights):
    full = StyleGANSynthesis(SynthesisConfig(weights=weights))
    small = StyleGANSynthesis(SynthesisConfig(weights=weights, resolution=8))
    w = torch.randn(2, 5)
    expected = F.interpolate(full.synthesize(w), size=8, mode="area")
    torch.testing.assert_close(small(w, full_box(2, 1))[:, 0], expected)


def test_higher_resolution_than_the_generators_is_refused(weights):
    with pytest.raises(UserError, match="resolution=32 is above the 16 of weights="):
        StyleGANSynthesis(SynthesisConfig(weights=weights, resolution=32))


def test_noise_is_constant_or_none(weights, generator):
    w = torch.randn(1, 5)
    for noise in ("const", "none"):
        model = StyleGANSynthesis(SynthesisConfig(weights=weights, noise=noise))
        torch.testing.assert_close(model.synthesize(w), generator.synthesis(generator.broadcast(w), noise))
        assert torch.equal(model.synthesize(w), model.synthesize(w))


def test_gradient_with_respect_to_the_latent(model):
    model.double()
    params = PatchBox(*(leaf.double() for leaf in box(0.2, 0.1, 0.5, 0.6)))
    w = torch.randn(1, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: model(w, params), (w,), fast_mode=True)
    plus = torch.randn(1, model.num_ws, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: model(w, params), (plus,), fast_mode=True)


def test_parameters_are_frozen(model):
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.generator.training


def test_latents_are_truncated_towards_the_mean(model):
    random = ItemRandom(0, range(3))
    z = random.randn(model.z_dim)
    w = model.generator.mapping(z)
    torch.testing.assert_close(model.sample_latents(ItemRandom(0, range(3))), w)
    half = model.sample_latents(ItemRandom(0, range(3)), truncation_psi=0.5)
    torch.testing.assert_close(half, (w + model.w_avg) / 2)
    torch.testing.assert_close(model.mapping(z, 0.0), model.w_avg.expand(3, -1))
    torch.testing.assert_close(model.origin(3, torch.device("cpu")), model.w_avg.expand(3, -1))


def test_latents_belong_to_the_item(model):
    whole, last = model.sample_latents(ItemRandom(0, range(4))), model.sample_latents(ItemRandom(0, [3]))
    torch.testing.assert_close(whole[3:], last)


def test_statistics_of_the_latents(model, generator):
    w = generator.mapping(torch.randn(20_000, 6))
    torch.testing.assert_close(model.w_std, w.std(dim=0), rtol=0.05, atol=1e-3)


def test_random_boxes_lie_on_pixels_within_the_image():
    boxes = random_boxes(ItemRandom(0, range(500)), 16, 0.25, 0.5, num_views=2)
    pixels = torch.stack(boxes) * 16
    assert pixels.shape == (4, 500, 2)
    assert torch.equal(pixels, pixels.round())
    left, top, width, height = pixels
    assert torch.equal(width, height)
    assert set(width.flatten().tolist()) == {4, 5, 6, 7, 8}
    for start in (left, top):
        assert start.min() == 0 and (start + width).max() == 16
    covered = box_mask(boxes, 16).flatten(2).sum(dim=2)
    assert torch.equal(covered, (width * height).long())


@pytest.mark.parametrize("fractions", [(0.0, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_impossible_boxes_are_refused(fractions):
    with pytest.raises(UserError, match="expected 0 < min_fraction <= max_fraction <= 1"):
        random_boxes(ItemRandom(0, [0]), 16, *fractions)


def test_embedded_generator():
    model = StyleGANSynthesis(SynthesisConfig())
    w = model.sample_latents(ItemRandom(0, range(8)))
    images = model(w, full_box(8, 1))[:, 0]
    assert images.shape == (8, 1, 32, 32)
    assert images.abs().quantile(0.99) < 1.2
    # Clothes on black: the corners are dark, the middle is not, and no two are alike.
    assert images[..., :2, :2].mean() < -0.9 and images[..., 12:20, 12:20].mean() > -0.6
    assert torch.pdist(images.flatten(1)).min() > 1
