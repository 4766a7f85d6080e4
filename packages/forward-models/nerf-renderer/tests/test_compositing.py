"""Compositing against loops, in float32, at its limits, and its derivatives."""

import pytest
import torch
from goembed_nerf_renderer.compositing import composite, compositing_weights


def loops(density, values, lengths):
    """Front to back, by transmittances."""
    transmittance = torch.ones_like(density[..., 0])
    total, weights = torch.zeros_like(values[..., 0, :]), []
    for i in range(density.shape[-1]):
        passes = torch.exp(-density[..., i] * lengths[..., i])
        weights.append(transmittance * (1 - passes))
        total = total + weights[-1][..., None] * values[..., i, :]
        transmittance = transmittance * passes
    return total, torch.stack(weights, -1), 1 - transmittance


def make(rays=(2, 5), samples=9, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    density = 3 * torch.rand(*rays, samples, generator=generator, dtype=dtype)
    density[0] *= (torch.arange(samples) % 3 > 0).to(dtype)  # with nothing between
    values = torch.rand(*rays, samples, 4, generator=generator, dtype=dtype)
    return density, values, torch.rand(*rays, samples, generator=generator, dtype=dtype)


def test_it_is_what_the_loops_say():
    for found, expected in zip(composite(*make()), loops(*make()), strict=True):
        torch.testing.assert_close(found, expected)


def test_derivatives():
    inputs = [leaf.requires_grad_() for leaf in make((2,), 4)]
    torch.autograd.gradcheck(lambda *given: tuple(composite(*given)), inputs)
    torch.autograd.gradgradcheck(lambda *given: tuple(composite(*given)), inputs)


def test_thin_air_keeps_its_digits():
    """1024 samples of an optical depth of 1e-7 each: as transmittances in float32 they would be 1 ± 1.2e-7."""
    density, lengths = torch.full((1, 1024), 1e-7), torch.ones(1, 1024)
    weights, opacity = compositing_weights(density, lengths)
    expected = -torch.expm1(torch.tensor(-1024e-7, dtype=torch.float64))
    torch.testing.assert_close(opacity.double()[0], expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(weights.double().sum(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("density", [1e6, 1e30])
def test_the_opaque_limit(density):
    """All of the weight is the first sample's that is not empty, and the gradient is finite."""
    densities = torch.zeros(1, 64)
    densities[:, 20:] = density
    densities.requires_grad_()
    values = torch.rand(1, 64, 3, generator=torch.Generator().manual_seed(0))
    found = composite(densities, values, torch.full((1, 64), 0.1))
    assert found.opacity.item() == 1
    assert torch.equal(found.weights, torch.nn.functional.one_hot(torch.tensor([20]), 64).float())
    assert torch.equal(found.values, values[:, 20])
    (gradient,) = torch.autograd.grad(found.values.sum(), densities)
    assert gradient.isfinite().all()
    assert gradient[0, :20].any()  # what stands before it would be seen


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fields_of_low_precision_are_composited_in_float32(dtype):
    density, values, lengths = make(dtype=torch.float32)
    density, values = density.to(dtype), values.to(dtype)
    expected = composite(density.float(), values.float(), lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found = composite(density, values, lengths)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)
