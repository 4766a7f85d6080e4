"""PSNR and SSIM against loops that follow the formulas word by word."""

import math

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.metrics.images import psnr, ssim


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    return a, (a + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(-1, 1)


def ssim_by_loops(a, b, data_range):
    """Wang et al. 2004, window by window, for one channel."""
    weight = [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    total = sum(map(sum, weight))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            cells = [
                (weight[i][j] / total, a[top + i, left + j].item(), b[top + i, left + j].item())
                for i in range(11)
                for j in range(11)
            ]
            mean_a = sum(w * x for w, x, _ in cells)
            mean_b = sum(w * y for w, _, y in cells)
            variance_a = sum(w * (x - mean_a) ** 2 for w, x, _ in cells)
            variance_b = sum(w * (y - mean_b) ** 2 for w, _, y in cells)
            covariance = sum(w * (x - mean_a) * (y - mean_b) for w, x, y in cells)
            luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
            values.append(luminance * (2 * covariance + c2) / (variance_a + variance_b + c2))
    return sum(values) / len(values)


def test_psnr_of_a_known_error():
    a = torch.zeros(2, 3, 4, 4)
    b = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.02)])
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 40.0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(psnr(a, b, data_range=1.0), torch.tensor([13.9794, 33.9794]), rtol=1e-5, atol=0)
    assert psnr(a, a).isposinf().all()


@pytest.mark.parametrize("mask_channels", [1, 3])
def test_psnr_under_a_mask_sees_only_the_mask(mask_channels):
    a, b = pair(2, 3, 8, 8)
    mask = torch.zeros(2, mask_channels, 8, 8)
    mask[..., :4] = 1
    torch.testing.assert_close(psnr(a, b, mask), psnr(a[..., :4], b[..., :4]))
    torch.testing.assert_close(psnr(a, b, mask * 0.5), psnr(a, b, mask))


def test_an_empty_mask_is_an_error():
    a, b = pair(2, 1, 8, 8)
    with pytest.raises(UserError, match="zero everywhere"):
        psnr(a, b, torch.zeros(2, 1, 8, 8))
    with pytest.raises(UserError, match=r"mask must have.*\(2, 1, 8, 8\).*got \(2, 8, 8\)"):
        psnr(a, b, torch.ones(2, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_the_loops(channels):
    a, b = pair(2, channels, 13, 15)
    expected = [sum(ssim_by_loops(a[i, c], b[i, c], 2.0) for c in range(channels)) / channels for i in range(len(a))]
    torch.testing.assert_close(ssim(a, b), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_ssim_of_equal_images_is_one_and_is_symmetric():
    a, b = pair(3, 1, 16, 16)
    torch.testing.assert_close(ssim(a, a), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    assert (ssim(a, b) < 0.99).all()


def test_ssim_of_constant_images_is_the_luminance_term():
    a, b = torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64), torch.full((1, 1, 16, 16), -0.25, dtype=torch.float64)
    expected = (2 * 0.5 * -0.25 + 4e-4) / (0.25 + 0.0625 + 4e-4)
    assert ssim(a, b).item() == pytest.approx(expected, rel=1e-6)


def test_shapes_are_checked_in_words():
    with pytest.raises(UserError, match=r"one shape.*\(1, 3, 8, 8\) and \(1, 1, 8, 8\)"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(UserError, match="windows of 11x11 pixels; images of 10x32 are too small"):
        ssim(torch.zeros(1, 3, 10, 32), torch.zeros(1, 3, 10, 32))
