"""Splatting against loops over pixels, and what must hold whatever the flow."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_softsplat_warp.splatting import MODES, coverage_of, num_ignored, splat, splat_with_coverage
from torch import Tensor

WEIGHTED = ("linear", "softmax")
nan, inf = float("nan"), float("inf")


def metric_of(mode: str, metric: Tensor) -> Tensor | None:
    """The metric in the form that a mode takes."""
    return {"softmax": metric, "linear": metric.abs() + 0.1}.get(mode)


def scene(
    shape: tuple[int, int, int, int] = (2, 3, 6, 7),
    reach: float = 2.0,
    seed: int = 0,
    dtype: torch.dtype = torch.double,
) -> tuple[Tensor, Tensor, Tensor]:
    """Random image, flow and metric."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = shape
    image = torch.randn(shape, generator=generator, dtype=torch.double)
    flow = reach * torch.randn(batch, 2, height, width, generator=generator, dtype=torch.double)
    metric = 3 * torch.randn(batch, 1, height, width, generator=generator, dtype=torch.double)
    return image.to(dtype), flow.to(dtype), metric.to(dtype)


def flows() -> dict[str, Tensor]:
    """Flows for images of 6x7."""
    _, flow, _ = scene()
    broken = flow.clone()
    broken[0, 0, 1, 2], broken[0, 1, 3, 3], broken[1, :, 5, 6] = nan, inf, -inf
    far = flow.clone()
    far[0, 0], far[1, 1] = 1e30, -50.0
    edge = torch.zeros_like(flow)
    edge[:, 0], edge[:, 1] = 0.5, -0.25
    return {
        "random": flow,
        "long": flow * 3,
        "small": flow * 0.05,
        "zero": torch.zeros_like(flow),
        "integer": flow.round(),
        "integer in x alone": torch.stack([flow[:, 0].round(), flow[:, 1]], 1),
        "integer in y alone": torch.stack([flow[:, 0], flow[:, 1].round()], 1),
        "out of frame": far,
        "over the edge": edge,
        "one pixel out": torch.full_like(flow, 7.0),
        "to one place": torch.stack(torch.meshgrid(3.3 - torch.arange(6.0), 2.6 - torch.arange(7.0), indexing="ij"))
        .flip(0)
        .double()
        .expand(2, 2, 6, 7),
        "not finite": broken,
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", flows())
def test_agrees_with_loops(oracle, name, mode):
    image, _, metric = scene()
    flow, metric = flows()[name], metric_of(mode, metric)
    found = splat_with_coverage(image, flow, metric, mode)
    values, coverage = oracle.splat(image, flow, metric, mode)
    torch.testing.assert_close(found.values, values, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.coverage, coverage, rtol=0, atol=1e-12)
    assert found.ignored.tolist() == ([2, 1] if name == "not finite" else [0, 0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 1, 5), (2, 1, 4, 1), (0, 3, 4, 5), (2, 0, 3, 3)])
def test_agrees_with_loops_at_small_sizes(oracle, shape, mode):
    for seed in range(5):
        image, flow, metric = scene(shape, reach=0.7, seed=seed)
        metric = metric_of(mode, metric)
        values, _ = oracle.splat(image, flow, metric, mode)
        torch.testing.assert_close(splat(image, flow, metric, mode), values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_metrics_from_minus_100_to_100(oracle, dtype, spread):
    for seed in range(3):
        image, flow, metric = scene((2, 3, 8, 9), reach=3, seed=seed, dtype=dtype)
        flow[:, :, :3] = flow[:, :, :3].round()  # some reach one target alone
        metric = (spread * torch.tanh(metric.double())).to(dtype)
        metric[:, :, 4:] = spread * metric[:, :, 4:].sign()
        found = splat(image, flow, metric, "softmax")
        assert found.dtype == dtype and found.isfinite().all()
        values, coverage = oracle.splat(image.double(), flow.double(), metric.double(), "softmax")
        assert torch.equal(coverage > 0, coverage_of(flow.float()) > 0)
        tolerance = 1e-4 if dtype == torch.float32 else torch.finfo(dtype).eps
        torch.testing.assert_close(found.double(), values, rtol=tolerance, atol=tolerance)


def test_of_two_pixels_at_one_place_the_larger_metric_shows():
    image = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    flow = torch.tensor([[[[1.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]]]])  # the second stays, the first lands on it, one leaves
    for first, second, expected in [(0, 0, 1.5), (100, -100, 1.0), (-100, 100, 2.0), (-3000.0, -2000.0, 2.0)]:
        metric = torch.tensor([[[[first, second, 7.0]]]])
        assert splat(image, flow, metric, "softmax").flatten().tolist() == pytest.approx([0.0, expected, 0.0])


def test_a_metric_beside_does_not_starve_a_pixel():
    """Whole flows: the neighbours' cells touch, their weights are zero."""
    image, _, _ = scene((1, 3, 5, 5), dtype=torch.float32)
    metric = torch.full((1, 1, 5, 5), -100.0)
    metric[..., ::2, ::2] = 100.0
    for step in (0.0, 1.0):
        flow = torch.full((1, 2, 5, 5), step)
        moved = splat(image, flow, metric, "softmax")
        assert torch.equal(moved[..., int(step) :, int(step) :], image[..., : 5 - int(step), : 5 - int(step)])


def test_a_metric_of_minus_infinity_is_no_weight():
    image, flow, metric = scene((1, 2, 5, 5), dtype=torch.float32)
    metric[..., 1:3, :] = -inf
    gone = flow.clone()
    gone[..., 1:3, :] = nan
    torch.testing.assert_close(splat(image, flow, metric, "softmax"), splat(image, gone, metric, "softmax"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_does_not_know_a_constant_in_the_metric(dtype):
    image, flow, metric = scene((1, 3, 16, 16), dtype=dtype)
    metric = metric.mul(8).round().div(8)  # so that adding does not round
    for constant in (-1024.0, 1.0, 512.0):
        shifted = splat(image, flow, metric + constant, "softmax")
        assert torch.equal(shifted, splat(image, flow, metric, "softmax"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_without_flow_nothing_changes_at_all(mode, dtype):
    image, flow, metric = scene((2, 3, 9, 14), dtype=dtype)
    found = splat_with_coverage(image, torch.zeros_like(flow), metric_of(mode, 10 * metric), mode)
    if mode == "linear":  # I Z / Z is rounded
        torch.testing.assert_close(found.values, image)
    else:
        assert torch.equal(found.values, image)
    assert (found.coverage == 1).all()


@pytest.mark.parametrize("reach", [0.3, 3.0])
def test_the_sum_is_conserved(reach):
    image, flow, _ = scene((2, 3, 40, 40), reach=reach)
    image[..., :12, :] = image[..., -12:, :] = image[..., :12] = image[..., -12:] = 0
    flow = flow.clamp(-11, 11)  # nothing leaves the frame
    moved = splat(image, flow, mode="sum")
    torch.testing.assert_close(moved.sum((2, 3)), image.sum((2, 3)), rtol=0, atol=1e-11)
    pixels = torch.arange(40.0).double()
    for axis in (2, 3):  # and the centre of mass moves as the pixels do
        along = pixels[:, None] if axis == 2 else pixels
        expected = (image * (along + flow[:, 3 - axis, None])).sum((2, 3))
        torch.testing.assert_close((moved * along).sum((2, 3)), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_pixels_without_a_finite_flow_leave_no_trace(mode):
    image, flow, metric = scene((2, 3, 8, 8), dtype=torch.float32)
    metric = metric_of(mode, metric)
    flow[0, 0, 2, 2] = flow[1, 1, 0, 0] = nan
    flow[0, 1, 5, 5] = inf
    broken = [part if part is None else part.clone() for part in (image, metric)]
    for part in filter(lambda part: part is not None, broken):
        part[0, :, 2, 2] = part[1, :, 0, 0] = part[0, :, 5, 5] = nan
    inputs = [part.requires_grad_() for part in (broken[0], flow, broken[1]) if part is not None]
    found = splat(*inputs, mode=mode)
    assert torch.equal(found, splat(image, flow, metric, mode))
    for gradient in torch.autograd.grad(found.square().sum(), inputs):
        assert gradient.isfinite().all()
        assert not gradient[0, :, 2, 2].any() and not gradient[1, :, 0, 0].any() and not gradient[0, :, 5, 5].any()
    assert num_ignored(flow).tolist() == [2, 1]


def test_the_input_may_lie_anyhow_in_memory():
    image, flow, metric = scene((2, 3, 6, 6))
    expected = splat(image, flow, metric, "softmax")
    turned = [part.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0) for part in (image, flow, metric)]
    assert torch.equal(splat(*turned, mode="softmax"), expected)
    one = image[:1].expand(2, -1, -1, -1)
    assert torch.equal(splat(one, flow, metric, "softmax"), splat(one.contiguous(), flow, metric, "softmax"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "softmx"}, r"mode='softmx'; did you mean 'softmax'\?; choose one of sum, average, linear, softmax"),
        ({"metric": None}, "mode='softmax' needs a metric"),
        ({"mode": "average"}, "mode='average' takes no metric; choose linear or softmax"),
        (
            {"input": torch.zeros(3, 4, 5)},
            r"the input has shape \(3, 4, 5\), expected \(batch, channels, height, width\)",
        ),
        ({"flow": torch.zeros(2, 3, 4, 5)}, r"the flow has shape \(2, 3, 4, 5\), expected \(2, 2, 4, 5\)"),
        ({"flow": torch.zeros(2, 2, 5, 4)}, r"the flow has shape \(2, 2, 5, 4\), expected \(2, 2, 4, 5\)"),
        ({"metric": torch.zeros(2, 3, 4, 5)}, r"the metric has shape \(2, 3, 4, 5\), expected \(2, 1, 4, 5\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {
        "input": torch.zeros(2, 3, 4, 5),
        "flow": torch.zeros(2, 2, 4, 5),
        "metric": torch.zeros(2, 1, 4, 5),
        "mode": "softmax",
    }
    with pytest.raises(UserError, match=message):
        splat(**given | change)
