"""The layers against the oracle, in values and in gradients."""

from __future__ import annotations

import pytest
import torch
from goembed_stylegan_synth.layers import (
    Conv,
    FullyConnected,
    binomial_filter,
    demodulation,
    downsample2d,
    modulated_conv2d,
    modulated_pointwise,
    normalize_second_moment,
    upsample2d,
    without_overflow,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
both_precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[ours.dtype], atol=TOLERANCE[ours.dtype])


def inputs(dtype, in_channels=4, out_channels=6, kernel=3, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    shapes = (3, in_channels, 5, 7), (out_channels, in_channels, kernel, kernel), (3, in_channels)
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_(requires_grad) for s in shapes]


@both_precisions
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_modulated_conv_equals_the_grouped_convolution(oracle, dtype, demodulate, up):
    x, weight, styles = inputs(dtype)
    x = x.to(memory_format=torch.channels_last)
    up_filter = binomial_filter().to(dtype) if up else None
    ours = modulated_conv2d(x, weight, styles, demodulate=demodulate, up_filter=up_filter)
    assert_close(ours, oracle.modulated_conv(x, weight, styles, demodulate, up))
    assert ours.shape[2:] == ((10, 14) if up else (5, 7))


@both_precisions
def test_pointwise_equals_the_grouped_convolution(oracle, dtype):
    x, weight, styles = inputs(dtype, kernel=1)
    expected = oracle.modulated_conv(x, weight, styles, demodulate=False)
    assert_close(modulated_pointwise(x, weight[:, :, 0, 0], styles), expected)


@pytest.mark.parametrize("up", [True, False])
def test_modulated_conv_has_the_right_gradients(up):
    x, weight, styles = inputs(torch.float64, 2, 3, requires_grad=True)
    up_filter = binomial_filter().double() if up else None
    assert torch.autograd.gradcheck(
        lambda *args: modulated_conv2d(*args, up_filter=up_filter), (x[:2, :, :3, :3], weight, styles[:2])
    )
    assert torch.autograd.gradgradcheck(
        lambda *args: modulated_conv2d(*args, up_filter=up_filter), (x[:1, :, :2, :2], weight, styles[:1])
    )


@both_precisions
def test_resampling_equals_zeros_inserted_by_hand(oracle, dtype):
    x, _, _ = inputs(dtype)
    kernel = binomial_filter().to(dtype)
    assert_close(upsample2d(x, kernel), oracle.upsample(x))
    even = x[:, :, :4, :6]
    assert_close(downsample2d(even, kernel), oracle.downsample(even))


def test_upsampling_keeps_a_constant_image_away_from_the_border():
    up = upsample2d(torch.ones(1, 1, 6, 6), binomial_filter())
    torch.testing.assert_close(up[..., 2:-2, 2:-2], torch.ones(1, 1, 8, 8))


@both_precisions
@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_equals_the_oracle(oracle, dtype, down, kernel):
    torch.manual_seed(0)
    layer = Conv(4, 6, kernel, down=down, gain=0.7).to(dtype)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 8, 8, dtype=dtype)
    state = {f"layer.{name}": value for name, value in layer.state_dict().items()}
    assert_close(layer(x), oracle.conv(state, "layer", x, 0.7, down))


def test_clamp_is_scaled_by_the_gain():
    layer = Conv(1, 1, 1, clamp=2.0, gain=0.5)
    torch.nn.init.constant_(layer.weight, 1.0)
    assert layer(torch.full((1, 1, 2, 2), 100.0)).max() == 1.0


def test_demodulated_weights_have_unit_norm():
    _, weight, styles = inputs(torch.float64)
    weights = weight[None] * styles[:, None, :, None, None] * demodulation(weight, styles)[:, :, None, None, None]
    torch.testing.assert_close(weights.square().sum(dim=(2, 3, 4)), torch.ones(3, 6, dtype=torch.float64))


def test_scaling_against_overflow_is_undone_by_demodulation():
    x, weight, styles = inputs(torch.float64)
    safe_weight, safe_styles = without_overflow(weight, 1000 * styles)
    assert safe_styles.abs().max() == 1
    assert safe_weight.abs().max().item() == pytest.approx(1 / 6)
    safe, plain = modulated_conv2d(x, safe_weight, safe_styles), modulated_conv2d(x, weight, styles)
    torch.testing.assert_close(safe, plain, rtol=1e-6, atol=1e-6)  # up to the epsilon in the root


def test_learning_rate_is_equalised():
    """A layer's output does not depend on the multiplier, its speed of learning does."""
    torch.manual_seed(0)
    slow = FullyConnected(64, 512, lr_multiplier=0.01)
    assert slow.weight.std().item() == pytest.approx(100, rel=0.02)
    assert slow(torch.randn(512, 64)).std().item() == pytest.approx(1, rel=0.02)


def test_second_moment_is_one():
    z = normalize_second_moment(torch.randn(5, 7) * 3)
    torch.testing.assert_close(z.square().mean(dim=1), torch.ones(5))
