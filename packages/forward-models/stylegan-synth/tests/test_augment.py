"""Augmentation: what each transform does, how often, to whom, and how the probability follows the discriminator."""

from __future__ import annotations

import math

import pytest
import torch
from goembed_core.randomness import ItemRandom
from goembed_stylegan_synth import augment
from goembed_stylegan_synth.augment import AdaptiveAugment
from goembed_stylegan_synth.config import AugmentConfig

OFF = {"flip": False, "rotate90": False, "translate": False, "geometry": False, "colour": False}


def only(p: float = 1.0, **on: bool) -> AdaptiveAugment:
    return AdaptiveAugment(AugmentConfig(**OFF | on, p=p, target=None))


def images(count: int = 64, channels: int = 3, side: int = 8) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def which(result, candidates) -> torch.Tensor:
    """The candidate that each result equals."""
    errors = torch.stack([(result - candidate).abs().amax(dim=(1, 2, 3)) for candidate in candidates])
    assert errors.amin(dim=0).max() < 1e-4
    return errors.argmin(dim=0)


def test_nothing_happens_at_probability_zero():
    x = images()
    adaptive = AdaptiveAugment(AugmentConfig(p=0.0))
    torch.testing.assert_close(adaptive(x, ItemRandom(0, range(64))), x, rtol=1e-4, atol=1e-5)
    assert AdaptiveAugment(AugmentConfig(p=0.0, target=None))(x, ItemRandom(0, range(64))) is x


def test_flip_happens_to_half_of_those_chosen():
    x = images(1000)
    flipped = which(only(0.6, flip=True)(x, ItemRandom(0, range(1000))), [x, x.flip(3)])
    assert flipped.float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_quarter_turns():
    x = images(400)
    turns = which(only(rotate90=True)(x, ItemRandom(0, range(400))), [x.rot90(k, (2, 3)) for k in range(4)])
    assert (turns.bincount(minlength=4) > 60).all()


def test_translation_by_whole_pixels():
    x = images(200, side=16)
    shifted = only(translate=True)(x, ItemRandom(0, range(200)))[:, :, 2:-2, 2:-2]
    candidates = [x.roll((dy, dx), (2, 3))[:, :, 2:-2, 2:-2] for dy in range(-2, 3) for dx in range(-2, 3)]
    assert len(which(shifted, candidates).unique()) > 15


@pytest.mark.parametrize("channels", [1, 3])
def test_items_have_their_own_numbers(channels):
    x = images(6, channels)
    adaptive = AdaptiveAugment(AugmentConfig(p=0.9))
    whole = adaptive(x, ItemRandom(3, range(6)))
    torch.testing.assert_close(adaptive(x[4:], ItemRandom(3, [4, 5])), whole[4:])
    same = adaptive(x[:1].expand(6, -1, -1, -1), ItemRandom(3, range(6)))
    assert torch.pdist(same.flatten(1)).min() > 1e-3


class Dice:
    """Numbers chosen by the test, in the order in which they are asked for."""

    batch, device, p = 1, torch.device("cpu"), torch.tensor(1.0)

    def __init__(self, happens: list[float], normal: list[float], uniform: list[float]):
        self.lists = {"happens": list(happens), "normal": list(normal), "uniform": list(uniform)}

    def _next(self, name: str) -> torch.Tensor:
        return torch.tensor([float(self.lists[name].pop(0))])

    def happens(self, probability=1.0):
        return self._next("happens")

    def normal(self):
        return self._next("normal")

    def uniform(self, low, high):
        return self._next("uniform")


def colour(happens: list[float], normal: list[float], angle: float = 0.0, channels: int = 3):
    """Matrix and offset; the transforms are brightness, contrast, inversion, hue, saturation."""
    matrix, offset = only(colour=True)._colour(Dice(happens, normal, [angle]), channels)
    return matrix[0], offset.item()


def test_brightness_and_contrast():
    matrix, offset = colour([1, 1, 0, 0, 0], [0.5, 2.0, 0.0])
    torch.testing.assert_close(matrix, 2 * torch.eye(3))
    assert offset == pytest.approx(0.5 * augment.BRIGHTNESS_STD * 2)
    matrix, offset = colour([1, 0, 1, 0, 0], [0.5, 0.0, 0.0], channels=1)
    assert matrix.item() == pytest.approx(-1) and offset == pytest.approx(-0.5 * augment.BRIGHTNESS_STD)


def test_inversion_mirrors_the_luma_and_keeps_the_chroma():
    matrix, _ = colour([0, 0, 1, 0, 0], [0.0, 0.0, 0.0])
    torch.testing.assert_close(matrix @ torch.ones(3), -torch.ones(3))
    chroma = torch.tensor([1.0, -1.0, 0.0])
    torch.testing.assert_close(matrix @ chroma, chroma)


def test_hue_turns_red_into_green_by_a_third_of_a_circle():
    matrix, offset = colour([0, 0, 0, 1, 0], [0.0, 0.0, 0.0], angle=2 * math.pi / 3)
    torch.testing.assert_close(matrix, torch.eye(3).roll(1, 0), atol=1e-6, rtol=0)
    assert offset == 0


def test_saturation_scales_the_chroma():
    matrix, _ = colour([0, 0, 0, 0, 1], [0.0, 0.0, 1.0])
    torch.testing.assert_close(matrix @ torch.ones(3), torch.ones(3))
    chroma = torch.tensor([1.0, -2.0, 1.0])
    torch.testing.assert_close(matrix @ chroma, 2 * chroma)


def geometry(happens: list[float], normal: list[float], uniform: list[float]) -> torch.Tensor:
    """From output to input; the transforms are scale, rotation, stretch, rotation, shift."""
    return only(geometry=True)._geometry(Dice(happens, normal, uniform), 8)[0]


def test_geometry_by_hand():
    still = [0.0, 0.0]
    torch.testing.assert_close(geometry([0] * 5, [9] * 4, [9] * 2), torch.eye(3))
    scale = geometry([1, 0, 0, 0, 0], [5.0, 0, 0, 0], still)
    torch.testing.assert_close(scale, torch.diag(torch.tensor([2.0, 2.0, 1.0])))
    stretch = geometry([0, 0, 1, 0, 0], [0, 5.0, 0, 0], still)
    torch.testing.assert_close(stretch, torch.diag(torch.tensor([2.0, 0.5, 1.0])))
    shift = geometry([0, 0, 0, 0, 1], [0, 0, 1.0, -2.0], still)
    torch.testing.assert_close(shift[:2, 2], torch.tensor([0.25, -0.5]))
    both = geometry([0, 1, 0, 1, 0], [0] * 4, [0.3, 0.4])
    expected = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
    torch.testing.assert_close(both[:2, :2], expected)


def test_rotations_together_happen_with_probability_p():
    adaptive = only(0.6, geometry=True)
    dice = augment._Dice(ItemRandom(0, range(2000)), adaptive.p)
    turned = adaptive._geometry(dice, 8)[:, 0, 1].abs() > 1e-6
    assert turned.float().mean().item() == pytest.approx(0.6, abs=0.04)


def test_differentiable_in_the_images():
    adaptive = AdaptiveAugment(AugmentConfig(p=0.9))
    x = images(2, side=5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: adaptive(x, ItemRandom(1, range(2))), (x,), fast_mode=True)


def test_autocast_costs_no_precision():
    x, adaptive = images(4), AdaptiveAugment(AugmentConfig(p=0.9))
    expected = adaptive(x, ItemRandom(0, range(4)))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adaptive(x, ItemRandom(0, range(4))), expected)


def test_probability_follows_the_discriminator():
    adaptive = AdaptiveAugment(AugmentConfig(p=0.5, target=0.6, speed_nimg=1000))
    adaptive.observe(torch.ones(64), 10_000)
    assert adaptive.real_sign.item() == pytest.approx(1)
    adaptive.adapt(100)
    assert adaptive.p.item() == pytest.approx(0.6)
    adaptive.observe(torch.tensor([1.0, -1.0]), 10_000)
    adaptive.adapt(300)
    assert adaptive.p.item() == pytest.approx(0.3)
    adaptive.adapt(5000)
    assert adaptive.p.item() == 0


def test_what_is_observed_is_averaged_over_a_window():
    adaptive = AdaptiveAugment(AugmentConfig(target=0.0))
    adaptive.observe(torch.ones(8), augment.SIGN_HALFLIFE_NIMG)
    assert adaptive.real_sign.item() == pytest.approx(0.5)


def test_without_a_target_the_probability_stays():
    adaptive = only(0.4, flip=True)
    adaptive.observe(torch.ones(8), 10_000)
    adaptive.adapt(100_000)
    assert adaptive.p.item() == pytest.approx(0.4)
