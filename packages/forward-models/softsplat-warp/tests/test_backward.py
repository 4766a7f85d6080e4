"""Backward warping, consistency and brightness constancy."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_softsplat_warp.backward import backwarp, brightness_constancy, consistent, inside
from goembed_softsplat_warp.splatting import splat
from torch import Tensor


def scene(shape=(2, 3, 5, 6), reach: float = 1.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    flow = reach * torch.randn(shape[0], 2, *shape[2:], generator=generator, dtype=torch.double)
    return torch.randn(shape, generator=generator, dtype=torch.double), flow


@pytest.mark.parametrize("reach", [0.0, 0.4, 1.5, 20.0])
@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (1, 1, 1, 1), (1, 2, 1, 4)])
def test_backwarp_agrees_with_loops(oracle, shape, reach):
    image, flow = scene(shape, reach)
    torch.testing.assert_close(backwarp(image, flow), oracle.backwarp(image, flow), rtol=0, atol=1e-12)
    whole = flow.round()
    torch.testing.assert_close(backwarp(image, whole), oracle.backwarp(image, whole), rtol=0, atol=1e-12)


def test_backwarp_is_the_adjoint_of_splatting():
    image, flow = scene()
    other = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    forward = (splat(image, flow, mode="sum") * other).sum()
    torch.testing.assert_close(forward, (image * backwarp(other, flow)).sum(), rtol=1e-12, atol=0)


def test_backwarp_without_flow_is_the_identity_and_its_dtype_stays():
    image, flow = scene()
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        found = backwarp(image.to(dtype), 0 * flow)
        assert found.dtype == dtype and torch.equal(found, image.to(dtype))


def test_backwarp_of_what_is_not_finite_is_zero():
    image, flow = scene()
    flow[0, 0, 1, 1], flow[1, 1, 2, 3] = float("nan"), float("inf")
    found = backwarp(image, flow)
    assert found.isfinite().all() and not found[0, :, 1, 1].any() and not found[1, :, 2, 3].any()


def test_backwarp_is_twice_differentiable():
    parts = tuple(part.requires_grad_() for part in scene((1, 2, 3, 4)))
    assert torch.autograd.gradcheck(backwarp, parts, fast_mode=True)
    assert torch.autograd.gradgradcheck(backwarp, parts, fast_mode=True)


def test_inside():
    flow = torch.zeros(1, 2, 3, 4)
    assert inside(flow).all()
    flow[0, 0, 0, 0], flow[0, 0, 0, 1], flow[0, 1, 2, 0] = -0.1, float("nan"), 0.5
    assert (~inside(flow)).nonzero()[:, 2:].tolist() == [[0, 0], [0, 1], [2, 0]]


def square(left: int, top: int) -> Tensor:
    """True on a square of five pixels."""
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., top : top + 5, left : left + 5] = 1
    return mask


def test_pixels_that_are_covered_are_not_consistent():
    """A square moves by (6, 2) over a background that stays: what it comes to cover has nowhere to go back to."""
    before, after = square(3, 4), square(9, 6)
    motion = torch.tensor([6.0, 2.0])[:, None, None]
    found = consistent(before * motion, -after * motion)
    assert torch.equal(found, ((after - before) <= 0))
    assert consistent(before * motion, -after * motion, absolute_px2=100.0).all()
    broken = before * motion
    broken[0, 0, 0, 0] = float("nan")
    assert not consistent(broken, -after * motion)[0, 0, 0, 0]


def test_pixels_that_leave_the_image_are_not_consistent():
    forward = torch.zeros(1, 2, 4, 5)
    forward[:, 0] = 0.5
    expected = torch.ones(1, 1, 4, 5, dtype=torch.bool)
    expected[..., -1] = False
    assert torch.equal(consistent(forward, -forward), expected)


def test_the_threshold_of_consistency_grows_with_the_flow():
    forward = torch.zeros(1, 2, 1, 40)
    forward[:, 0] = 10
    for off, same in (
        (1.5, True),
        (1.7, False),
    ):  # 0.01 (10² + 8.4²) + 0.5 = 2.2 = 1.48², 0.01 (10² + 11.7²) + 0.5 = 1.69²
        backward = torch.zeros_like(forward)
        backward[:, 0] = -10 - off
        assert bool(consistent(forward, backward)[..., :20].all()) == same


def test_the_metric_hides_what_is_covered():
    generator = torch.Generator().manual_seed(0)
    background = torch.rand(1, 3, 20, 20, generator=generator) * 0.5 - 1
    texture = torch.rand(1, 3, 20, 20, generator=generator) * 0.5 + 0.5
    before, after = square(3, 4), square(9, 6)
    motion = before * torch.tensor([6.0, 2.0])[:, None, None]
    first = torch.where(before > 0, texture, background)
    second = torch.where(after > 0, texture.roll((2, 6), (2, 3)), background)
    metric = brightness_constancy(first, second, motion, alpha=-50.0)
    covered = (after > 0) & (before == 0)
    revealed = (before > 0) & (after == 0)
    assert metric[covered].max() < -20
    assert (metric[(after == 0) & ~revealed] == 0).all()
    moved = splat(first, motion, metric, "softmax")
    known = (~revealed).expand(-1, 3, -1, -1)
    torch.testing.assert_close(moved[known], second[known])
    averaged = splat(first, motion)
    assert (averaged - second)[covered.expand(-1, 3, -1, -1)].abs().mean() > 0.3


def test_alpha_is_learnt():
    image, flow = scene()
    alpha = torch.tensor(-10.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(brightness_constancy(image, image.flip(3), flow, alpha).sum(), alpha)
    expected = (image - backwarp(image.flip(3), flow)).abs().mean(1).sum()
    assert gradient.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_does_not_fit_is_refused():
    image, flow = scene()
    with pytest.raises(UserError, match=r"the flow has shape \(2, 3, 5, 6\), expected \(2, 2, 5, 6\)"):
        backwarp(image, image)
    with pytest.raises(
        UserError, match=r"the image has shape \(3, 5, 6\), expected \(batch, channels, height, width\)"
    ):
        backwarp(image[0], flow)
    with pytest.raises(UserError, match=r"the backward flow has shape \(1, 2, 5, 6\), expected \(2, 2, 5, 6\)"):
        consistent(flow, flow[:1])
    with pytest.raises(
        UserError, match=r"the forward flow has shape \(2, 3, 5, 6\), expected \(batch, 2, height, width"
    ):
        consistent(image, image)
    with pytest.raises(UserError, match=r"the second image has shape \(1, 3, 5, 6\), expected \(2, 3, 5, 6\)"):
        brightness_constancy(image, image[:1], flow)
