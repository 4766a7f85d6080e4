"""The forward model: any time, any number of views, and what is seen where nothing lands."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import ForwardModel, GradientOrigin
from goembed_softsplat_warp.config import SoftsplatWarpConfig
from goembed_softsplat_warp.holes import pull_push
from goembed_softsplat_warp.model import MovingImage, SoftsplatWarp, WarpTime
from torch import Tensor

POLICIES = ("pull-push", "source", "zero")
each_policy = pytest.mark.parametrize("holes", POLICIES)


def warp(holes: str = "pull-push", **settings) -> SoftsplatWarp:
    return SoftsplatWarp(SoftsplatWarpConfig(holes=holes, **settings))


def at(*times: float, batch: int = 1) -> WarpTime:
    return WarpTime(torch.tensor(times, dtype=torch.double).expand(batch, -1))


def scene(batch: int = 2, channels: int = 3, height: int = 7, width: int = 6, reach: float = 2.0) -> MovingImage:
    generator = torch.Generator().manual_seed(0)
    draw = lambda count: torch.randn(batch, count, height, width, generator=generator, dtype=torch.double)  # noqa: E731
    return MovingImage(draw(channels).tanh(), reach * draw(2), 3 * draw(1))


def test_is_a_forward_model_with_an_origin():
    model = warp(channels=2, height=5, width=4)
    assert isinstance(model, ForwardModel) and isinstance(model, GradientOrigin)
    origin = model.origin(3, torch.device("cpu"))
    assert origin.colour.shape == (3, 2, 5, 4) and not any(leaf.any() for leaf in origin)
    signal, params = model.example(3, torch.Generator().manual_seed(0))
    assert model(signal, params).shape == (3, 2, 2, 5, 4)


@each_policy
@pytest.mark.parametrize("full", [0.1, 1.0])
def test_agrees_with_loops(oracle, holes, full):
    for reach in (0.3, 2.0, 6.0):
        signal, params = scene(reach=reach), WarpTime(torch.tensor([[0.0, 0.4, -1.3], [2.5, 1.0, 0.0]]).double())
        expected = oracle.warp(*signal, params.time, holes, full)
        torch.testing.assert_close(warp(holes, full_coverage=full)(signal, params), expected, rtol=0, atol=1e-12)


@each_policy
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_at_time_0_it_is_the_image_to_the_last_bit(holes, dtype):
    signal = MovingImage(*(leaf.to(dtype) for leaf in scene(height=33, width=50)))
    seen = warp(holes)(signal, at(0.0, 0.7, 0.0, batch=2))
    assert seen.dtype == dtype
    assert torch.equal(seen[:, 0], signal.colour) and torch.equal(seen[:, 2], signal.colour)
    assert not torch.equal(seen[:, 1], signal.colour)


def test_whole_pixels_move_exactly():
    signal = scene()
    motion = torch.zeros_like(signal.motion)
    motion[:, 0], motion[:, 1] = 2.0, -4.0
    seen = warp("zero")(signal._replace(motion=motion), at(0.5, 1.0, -0.5, batch=2))
    assert torch.equal(seen[:, 0, :, :-2, 1:], signal.colour[..., 2:, :-1])
    assert torch.equal(seen[:, 1, :, :-4, 2:], signal.colour[..., 4:, :-2])
    assert torch.equal(seen[:, 2, :, 2:, :-1], signal.colour[..., :-2, 1:])
    assert not seen[:, 0, :, -2:].any() and not seen[:, 0, ..., :1].any()


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_any_number_of_channels_and_views(channels):
    signal = scene(channels=channels)
    for views in (0, 1, 9):
        times = torch.linspace(0, 1, views).double().expand(2, -1)
        assert warp()(signal, WarpTime(times)).shape == (2, views, channels, 7, 6)
        assert warp().coverage(signal, WarpTime(times)).shape == (2, views, 1, 7, 6)


def test_views_are_one_splat(monkeypatch):
    import goembed_softsplat_warp.model as module

    calls = []
    inner = module.splat
    monkeypatch.setattr(module, "splat", lambda image, *rest: calls.append(len(image)) or inner(image, *rest))
    warp()(scene(), at(0.1, 0.2, 0.3, 0.4, batch=2))
    assert calls == [8]


def moving_square() -> MovingImage:
    """A white square of 6x6 pixels on grey goes 8 to the right, over a background that stays."""
    colour = torch.full((1, 1, 16, 32), -0.25)
    mask = torch.zeros(1, 1, 16, 32)
    mask[..., 5:11, 4:10] = 1
    motion = torch.cat([8 * mask, 0 * mask], 1)
    return MovingImage(torch.where(mask > 0, 1.0, colour), motion, 20 * mask)


def test_policies_for_holes():
    signal, params = moving_square(), at(0.0, 1.0)
    holes = warp().holes(signal, params)
    assert not holes[:, 0].any()
    expected = torch.zeros(16, 32)
    expected[5:11, 4:10] = 1  # where the square was
    assert torch.equal(holes[0, 1, 0], expected)
    place = expected > 0
    seen = {policy: warp(policy)(signal, params)[0, 1, 0] for policy in POLICIES}
    assert (seen["zero"][place] == 0).all()
    assert (seen["source"][place] == 1).all()
    torch.testing.assert_close(seen["pull-push"][place], torch.full((36,), -0.25))  # all that is around it is grey
    for image in seen.values():
        assert torch.equal(image[~place], seen["zero"][~place])
        assert (image[5:11, 12:18] == 1).all() and (image[~place].ne(-0.25).sum() == 36)


@each_policy
def test_nothing_jumps_as_time_goes_on(holes):
    """Steps a thousand times smaller change the image about a thousand times less, also where holes open."""
    signal = scene(reach=3.0)
    signal = signal._replace(metric=signal.metric / 10)  # between metrics far apart the change is steep
    model = warp(holes)
    largest = {}
    for step in (1e-3, 1e-6):
        times = torch.linspace(0, 1, 25).double()
        pairs = torch.stack([times, times + step], 1).flatten()
        seen = model(signal, WarpTime(pairs.expand(2, -1))).unflatten(1, (-1, 2))
        largest[step] = (seen[:, :, 1] - seen[:, :, 0]).abs().max().item()
    assert largest[1e-6] < 5e-3 * largest[1e-3]


def test_coverage_has_a_gradient_and_is_one_where_nothing_moves():
    signal = scene()
    motion = signal.motion.clone().requires_grad_()
    coverage = warp().coverage(signal._replace(motion=motion), at(0.0, 0.5, batch=2))
    assert (coverage[:, 0] == 1).all()
    (gradient,) = torch.autograd.grad(coverage.square().sum(), motion)
    assert gradient.any()


def test_pull_push_agrees_with_loops(oracle):
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 1), (1, 5), (3, 1), (7, 6), (8, 8), (9, 13)):
        weight = torch.rand(2, 1, *shape, generator=generator, dtype=torch.double) ** 3
        weight[torch.rand(weight.shape, generator=generator) < 0.6] = 0
        colour = torch.randn(2, 3, *shape, generator=generator, dtype=torch.double)
        expected = torch.stack([oracle.pull_push(w * c, w) for c, w in zip(colour, weight, strict=True)])
        torch.testing.assert_close(pull_push(weight * colour, weight), expected, rtol=0, atol=1e-12)


def test_pull_push_is_differentiable_and_knows_constants():
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(1, 1, 6, 7, generator=generator, dtype=torch.double) * 0.4
    weight[..., 2:, 1:] = 0
    colour = torch.randn(1, 2, 6, 7, generator=generator, dtype=torch.double)
    parts = ((weight * colour).requires_grad_(), weight.clone().requires_grad_())
    assert torch.autograd.gradcheck(pull_push, parts) and torch.autograd.gradgradcheck(pull_push, parts, fast_mode=True)
    constant = pull_push(0.7 * weight, weight)
    torch.testing.assert_close(constant, torch.full_like(constant, 0.7))
    assert not pull_push(0 * colour, 0 * weight).any()


def test_motion_in_half_precision_is_placed_in_float32():
    """At 30 pixels bfloat16 knows eighths of a pixel; the share of a motion is not rounded to them."""
    colour = torch.linspace(-1, 1, 256).expand(1, 1, 4, 256)
    motion = torch.zeros(1, 2, 4, 256)
    motion[:, 0] = 100.0
    signal, params = MovingImage(colour, motion, 0 * motion[:, :1]), WarpTime(torch.tensor([[0.3]]))
    expected = warp()(signal, params)
    half = signal._replace(motion=motion.bfloat16(), metric=signal.metric.bfloat16())
    torch.testing.assert_close(warp()(half, params), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(warp()(signal, params), expected)


def test_pixels_without_a_finite_motion_are_holes():
    signal = scene()
    signal.motion[0, 0, 3, 3] = float("nan")
    model, params = warp(), at(0.0, 1.0, batch=2)
    seen = model(signal, params)
    assert seen.isfinite().all()
    assert model.holes(signal, params)[0, 0].nonzero()[:, 1:].tolist() == [[3, 3]]


def test_gradient_descent_finds_a_motion():
    """Of a smooth image shifted by (1.5, -1), from no motion at all."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    draw = lambda dx, dy: torch.stack([torch.sin((x - dx) / 3), torch.cos((y - dy) / 4)])[None]  # noqa: E731
    model = warp()
    shift = torch.zeros(1, 2, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=0.1)
    target = draw(1.5, -1.0)
    for _ in range(60):
        signal = MovingImage(draw(0, 0), shift.expand(1, 2, 24, 24), torch.zeros(1, 1, 24, 24))
        error = (model(signal, at(1.0))[:, 0] - target)[..., 3:-3, 3:-3].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert shift.flatten().tolist() == pytest.approx([1.5, -1.0], abs=0.05)


def photograph() -> Tensor:
    """A frame of 388x584 pixels, in [-1, 1]."""
    path = Path(os.environ.get("GOEMBED_DATA", "")) / "videos" / "rubberwhale1.png"
    if not path.is_file():
        pytest.skip("needs the folder of public data, GOEMBED_DATA, with videos/rubberwhale1.png")
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_a_photograph_is_turned_and_enlarged():
    """As a resampler in the other direction has it: 30 dB inside, no holes there, and to the right side."""
    image = photograph()
    height, width = image.shape[2:]
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    angle, zoom = math.radians(10), 1.2
    cosine, sine = math.cos(angle), math.sin(angle)
    motion = torch.stack([zoom * (cosine * x - sine * y) - x, zoom * (sine * x + cosine * y) - y])[None]
    signal, params = MovingImage(image, motion, torch.zeros(1, 1, height, width)), WarpTime(torch.tensor([[1.0]]))
    seen = warp()(signal, params)[0, 0]
    # On the screen y runs downwards: a positive angle turns clockwise.  `affine_grid` takes the way back.
    ratio = height / width
    back = torch.tensor([[cosine, sine * ratio, 0], [-sine / ratio, cosine, 0]])[None] / zoom
    grid = torch.nn.functional.affine_grid(back, image.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(image, grid, mode="bicubic", align_corners=False)[0]
    inner = (slice(None), slice(60, -60), slice(60, -60))
    error = (seen[inner] - expected[inner]).square().mean()
    assert 10 * math.log10(4 / error) > 30
    assert not warp().holes(signal, params)[0, 0][inner].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"colour": torch.zeros(3, 7, 6)},
            r"the colour has shape \(3, 7, 6\), expected \(batch, channels, height, width",
        ),
        ({"motion": torch.zeros(2, 1, 7, 6)}, r"the motion has shape \(2, 1, 7, 6\), expected \(2, 2, 7, 6\)"),
        ({"metric": torch.zeros(2, 1, 6, 7)}, r"the metric has shape \(2, 1, 6, 7\), expected \(2, 1, 7, 6\)"),
        ({}, r"φ has a leaf 'time' of shape \(3, 2\), expected \(2, views\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    params = at(0.0, 1.0, batch=2 if change else 3)
    with pytest.raises(UserError, match=message):
        warp()(scene()._replace(**change), params)
