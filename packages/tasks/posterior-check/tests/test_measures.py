"""Distances and calibration on cases with known answers."""

from __future__ import annotations

import pytest
import torch
from goembed_posterior_check.measures import coverage, coverage_error, ranks, sliced_wasserstein, tarp, wasserstein_1d

LEVELS = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)


def test_a_shift_is_its_own_distance():
    a = torch.randn(3, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shuffled = a[:, torch.randperm(100, generator=torch.Generator().manual_seed(1))]
    assert torch.allclose(wasserstein_1d(a, shuffled + 0.7), torch.full((3,), 0.7, dtype=torch.float64))


def test_one_dimensional_distance_is_the_best_of_all_pairings():
    a, b = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([2.0, 0.5, 4.0])
    pairings = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    best = min(sum(abs(a[i] - b[j]) for i, j in enumerate(p)) / 3 for p in pairings)
    assert wasserstein_1d(a, b).item() == pytest.approx(best.item())


def test_slices_of_a_shift():
    a = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    shift, axes = torch.tensor([1.0, -2.0, 0.0]), torch.eye(3)
    assert torch.allclose(sliced_wasserstein(a, a + shift, axes), torch.ones(2), atol=1e-5)


def posterior_samples(contexts: int, count: int, spread: float, bias: float = 0.0):
    """Truth ~ N(m, 1) per context, samples ~ N(m + bias, spread²)."""
    generator = torch.Generator().manual_seed(0)
    mean = 3 * torch.randn(contexts, 1, 2, generator=generator)
    truth = (mean + torch.randn(contexts, 1, 2, generator=generator))[:, 0]
    samples = mean + bias + spread * torch.randn(contexts, count, 2, generator=generator)
    reference = 3 * torch.randn(contexts, 2, generator=generator)
    return truth, samples, reference


def test_samples_of_the_posterior_are_calibrated_and_others_are_not():
    truth, samples, reference = posterior_samples(4000, 99, spread=1.0)
    right = coverage_error(tarp(truth, samples, reference), LEVELS)
    assert right < 0.03 and coverage_error(ranks(truth[:, 0], samples[:, :, 0]), LEVELS) < 0.03
    for spread, bias in ((0.5, 0.0), (2.0, 0.0), (1.0, 1.0)):
        truth, samples, reference = posterior_samples(4000, 99, spread, bias)
        wrong = tarp(truth, samples, reference), ranks(truth[:, 0], samples[:, :, 0])
        assert max(coverage_error(shares, LEVELS) for shares in wrong) > 0.1
    one_answer = samples.mean(1, keepdim=True).expand_as(samples)
    assert coverage_error(tarp(truth, one_answer, reference), LEVELS) > 0.4


def test_coverage_of_uniform_shares_is_the_level():
    shares = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    assert torch.allclose(coverage(shares, LEVELS), LEVELS, atol=1e-3)
