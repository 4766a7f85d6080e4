"""The losses, on players simple enough to know the answer."""

from __future__ import annotations

import math

import pytest
import torch
from goembed_core.randomness import ItemRandom
from goembed_stylegan_synth.losses import (
    PathLengthPenalty,
    discriminator_loss,
    draw_ws,
    generator_loss,
    r1_penalty,
)


def test_logistic_losses_by_hand():
    fake, real = torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 3.0])
    assert generator_loss(fake).item() == pytest.approx((math.log(2) + math.log1p(math.exp(-2))) / 2)
    wrong_fake = (math.log(2) + math.log1p(math.exp(2))) / 2
    wrong_real = (math.log1p(math.exp(1)) + math.log1p(math.exp(-3))) / 2
    assert discriminator_loss(fake, real).item() == pytest.approx(wrong_fake + wrong_real)


def test_players_pull_in_opposite_directions():
    logits = torch.zeros(3, requires_grad=True)
    (up,) = torch.autograd.grad(generator_loss(logits), logits)
    (down,) = torch.autograd.grad(discriminator_loss(logits, torch.zeros(3)), logits)
    torch.testing.assert_close(up, -down)
    assert (up < 0).all()


def test_r1_of_a_linear_discriminator_is_its_squared_norm():
    slope = torch.randn(2, 3, 3, requires_grad=True)
    images = torch.randn(5, 2, 3, 3, requires_grad=True)
    penalty = r1_penalty((images * slope).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(penalty, slope.square().sum())
    (gradient,) = torch.autograd.grad(penalty, slope)
    torch.testing.assert_close(gradient, 2 * slope)


def test_path_length_of_a_linear_generator():
    """`image = J w`, so that the length is `||Jᵀ y||` exactly, averaged over the rows of `ws`."""
    jacobian = torch.randn(2, 4, 4, 3, requires_grad=True)
    ws = torch.randn(5, 1, 3, requires_grad=True)
    images = torch.einsum("chwd,bnd->bchw", jacobian, ws)
    regulariser = PathLengthPenalty(decay=0.2)
    penalty, lengths = regulariser(images, ws, ItemRandom(0, range(5)))
    direction = ItemRandom(0, range(5)).randn(2, 4, 4) / 4
    expected = torch.einsum("chwd,bchw->bd", jacobian, direction).norm(dim=1)
    torch.testing.assert_close(lengths, expected)
    torch.testing.assert_close(regulariser.mean_length, expected.mean().detach() / 5)
    torch.testing.assert_close(penalty, (expected - regulariser.mean_length).square().mean())
    assert torch.autograd.grad(penalty, jacobian)[0].abs().sum() > 0


def test_path_length_reaches_the_generator(generator, small_config):
    ws = generator.broadcast(generator.mapping(torch.randn(2, small_config.z_dim)))
    penalty, _ = PathLengthPenalty()(generator.synthesis(ws, "none"), ws, ItemRandom(0, range(2)))
    penalty.backward()
    assert generator.synthesis.b8.conv0.weight.grad.abs().sum() > 0
    assert generator.mapping.fc0.weight.grad.abs().sum() > 0


def test_style_mixing_switches_layers_once(generator):
    random = ItemRandom(0, range(200))
    ws = draw_ws(generator, random, style_mixing=0.9)
    assert ws.shape == (200, generator.num_ws, 5)
    changes = (ws[:, 1:] != ws[:, :-1]).any(dim=2).sum(dim=1)
    assert set(changes.tolist()) == {0, 1}
    assert changes.float().mean().item() == pytest.approx(0.9, abs=0.07)
    assert (draw_ws(generator, ItemRandom(0, range(50)), 0.0).diff(dim=1) == 0).all()


def test_latents_belong_to_the_item(generator):
    whole, part = draw_ws(generator, ItemRandom(3, range(6))), draw_ws(generator, ItemRandom(3, range(2, 4)))
    torch.testing.assert_close(whole[2:4], part)


def test_autocast_does_not_round_the_penalty():
    def penalty() -> torch.Tensor:
        images = torch.linspace(0.1, 1.7, 24).reshape(2, 1, 3, 4).requires_grad_()
        weight = torch.linspace(-1, 1.1, 12)[:, None].requires_grad_()
        with torch.autocast("cpu", enabled=False):  # as the networks do
            logits = (images.flatten(1) @ weight).square().squeeze(1)
        return r1_penalty(logits, images)

    expected = penalty()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(penalty(), expected)
