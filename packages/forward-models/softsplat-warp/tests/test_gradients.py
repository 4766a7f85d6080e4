"""First and second derivatives, however they are asked for."""

from __future__ import annotations

import warnings

import pytest
import torch
from goembed_softsplat_warp.plain import plain_splat
from goembed_softsplat_warp.splatting import MODES, coverage_of, splat
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck


def scene(mode: str, shape=(2, 2, 4, 5), reach: float = 1.2, seed: int = 0) -> tuple[Tensor, ...]:
    """Random image, flow and, for modes that take one, metric; in float64."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = shape
    parts = [torch.randn(shape, generator=generator, dtype=torch.double)]
    parts.append(reach * torch.randn(batch, 2, height, width, generator=generator, dtype=torch.double))
    if mode in ("linear", "softmax"):
        metric = torch.randn(batch, 1, height, width, generator=generator, dtype=torch.double)
        parts.append(metric.abs() + 0.5 if mode == "linear" else 3 * metric)
    return tuple(parts)


def wanting(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(part.clone().requires_grad_() for part in parts)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode):
    assert gradcheck(lambda *parts: splat(*parts, mode=mode), wanting(scene(mode)))


@pytest.mark.parametrize("mode", MODES)
def test_gradgradcheck(mode):
    parts = wanting(scene(mode, (1, 2, 3, 4)))
    assert gradgradcheck(lambda *parts: splat(*parts, mode=mode), parts, atol=1e-4)


@pytest.mark.parametrize("mode", ["linear", "softmax"])
@pytest.mark.parametrize("alone", [0, 1, 2])
def test_gradient_of_one_input_alone(mode, alone):
    parts = list(scene(mode))
    parts[alone].requires_grad_()

    def of_one(part: Tensor) -> Tensor:
        return splat(*parts[:alone], part, *parts[alone + 1 :], mode=mode)

    assert gradcheck(of_one, parts[alone], fast_mode=True)
    assert gradgradcheck(of_one, parts[alone], fast_mode=True)


def test_gradient_of_the_coverage():
    _, flow = wanting(scene("sum"))
    assert gradcheck(coverage_of, flow, fast_mode=True) and gradgradcheck(coverage_of, flow, fast_mode=True)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_is_that_of_plain_operations(mode):
    """Also at whole flows, at the edge and where nothing is finite: one-sided, to the right and downwards."""
    for seed in range(4):
        parts = scene(mode, (2, 3, 9, 8), reach=2, seed=seed)
        parts[1][:, :, :4] = parts[1][:, :, :4].round()
        parts[1][0, 0, 5] = 4 - torch.arange(8)  # a column of targets
        parts[1][1, 1, 6, :3] = torch.tensor([float("nan"), 1e20, -7.0])
        upstream = torch.randn_like(parts[0])
        for inputs in (wanting(parts), wanting(tuple(part.float() for part in parts))):
            found, expected = splat(*inputs, mode=mode), plain_splat(mode, *inputs)
            scale = 1e-12 if found.dtype == torch.double else 1e-3
            torch.testing.assert_close(found, expected, rtol=scale, atol=scale)
            ours, theirs = (torch.autograd.grad(v, inputs, upstream.to(v.dtype)) for v in (found, expected))
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=scale, atol=scale * float(b.abs().max()))


def test_the_derivative_of_a_whole_flow_is_the_one_to_the_right_and_downwards():
    image, _, metric = scene("softmax", (1, 3, 5, 5))
    metric = metric / 3
    flow = torch.zeros(1, 2, 5, 5, dtype=torch.double, requires_grad=True)
    weights = torch.randn(1, 3, 5, 5, dtype=torch.double, generator=torch.Generator().manual_seed(3))

    def value(flow: Tensor) -> Tensor:
        return (splat(image, flow, metric, "softmax") * weights).sum()

    (gradient,) = torch.autograd.grad(value(flow), flow)
    for index in ((0, 0, 2, 2), (0, 1, 2, 2), (0, 0, 0, 4), (0, 1, 4, 1)):
        step = torch.zeros_like(flow)
        step[index] = 1e-6
        difference = (value(flow + step) - value(flow)) / 1e-6
        assert difference.item() == pytest.approx(gradient[index].item(), rel=1e-3, abs=1e-4)


def test_gradients_stay_finite_at_metrics_far_apart():
    image, flow, metric = scene("softmax", (1, 3, 12, 12), reach=2)
    flow[..., ::2] = flow[..., ::2].round()
    for dtype in (torch.float32, torch.float64):
        inputs = wanting(tuple(part.to(dtype) for part in (image, flow, 100 * metric.sign())))
        for gradient in torch.autograd.grad(splat(*inputs, mode="softmax").square().sum(), inputs):
            assert gradient.isfinite().all()


def test_one_tensor_in_two_places():
    """The derivatives do not count twice what hangs together."""
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(1, 2, 4, 4, generator=generator, dtype=torch.double, requires_grad=True)
    assert gradgradcheck(lambda x: splat(x, x, x[:, :1], "softmax"), both, fast_mode=True)


@pytest.mark.parametrize("mode", ["sum", "softmax"])
def test_transforms_of_functions(mode):
    parts = scene(mode, (3, 2, 4, 5))
    plain = lambda *parts: plain_splat(mode, *parts)  # noqa: E731
    ours = lambda *parts: splat(*parts, mode=mode)  # noqa: E731
    of_each = torch.func.vmap(lambda *parts: ours(*(part[None] for part in parts))[0])
    torch.testing.assert_close(of_each(*parts), plain(*parts))
    one_flow = torch.func.vmap(lambda image: ours(image[None], *(part[:1] for part in parts[1:]))[0])
    torch.testing.assert_close(one_flow(parts[0])[0], plain(*(part[:1] for part in parts))[0])

    def loss(function):
        return lambda *parts: function(*parts).square().sum()

    wrt = tuple(range(len(parts)))
    for a, b in zip(torch.func.grad(loss(ours), wrt)(*parts), torch.func.grad(loss(plain), wrt)(*parts), strict=True):
        torch.testing.assert_close(a, b)
    per_item = torch.func.vmap(torch.func.grad(lambda *p: loss(ours)(*(part[None] for part in p)), wrt))
    for a, b in zip(per_item(*parts), torch.func.grad(loss(plain), wrt)(*parts), strict=True):
        torch.testing.assert_close(a, b)

    def slope(function):
        return lambda *parts: sum(g.square().sum() for g in torch.func.grad(loss(function), wrt)(*parts))

    for a, b in zip(torch.func.grad(slope(ours), wrt)(*parts), torch.func.grad(slope(plain), wrt)(*parts), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mode", ["average", "softmax"])
def test_compiles_whole_with_its_gradient(mode):
    parts = wanting(scene(mode, (2, 3, 6, 7)))
    expected = splat(*parts, mode=mode)
    gradients = torch.autograd.grad(expected.square().sum(), parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own compiler
        torch._dynamo.reset()
        compiled = torch.compile(lambda *parts: splat(*parts, mode=mode), backend="aot_eager", fullgraph=True)
        found = compiled(*parts)
        ours = torch.autograd.grad(found.square().sum(), parts)
        torch._dynamo.reset()
    torch.testing.assert_close(found, expected)
    for a, b in zip(ours, gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_changes_nothing():
    parts = wanting(tuple(part.float() for part in scene("softmax", (1, 3, 8, 8))))
    expected = splat(*parts, mode="softmax")
    wanted = torch.autograd.grad(expected.sum(), parts)
    with torch.autocast("cpu", torch.bfloat16):
        found = splat(*parts, mode="softmax")
        assert torch.equal(found, expected)
        for a, b in zip(torch.autograd.grad(found.sum(), parts), wanted, strict=True):
            assert torch.equal(a, b)


def test_the_gradient_has_the_dtype_of_the_input():
    parts = wanting(tuple(part.bfloat16() for part in scene("softmax")))
    for part, gradient in zip(parts, torch.autograd.grad(splat(*parts, mode="softmax").sum(), parts), strict=True):
        assert gradient.dtype == torch.bfloat16 == part.dtype and gradient.any()


def test_deterministic_on_request():
    parts = wanting(tuple(part.float() for part in scene("softmax", (2, 3, 40, 40), reach=8)))
    expected = splat(*parts, mode="softmax")
    gradients = torch.autograd.grad(expected.square().sum(), parts, create_graph=True)
    torch.use_deterministic_algorithms(True)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found = splat(*parts, mode="softmax")
            assert torch.equal(found, expected)
            ours = torch.autograd.grad(found.square().sum(), parts, create_graph=True)
            assert all(torch.equal(a, b) for a, b in zip(ours, gradients, strict=True))
            torch.autograd.grad(sum(g.sum() for g in ours), parts)  # is not refused
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
