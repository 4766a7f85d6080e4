"""Exact posteriors, against slower ways to know them."""

from __future__ import annotations

import math

import pytest
import torch
from goembed_core.randomness import ItemRandom
from goembed_posterior_check.mixture import GaussianMixture, decaying_gaussian, ring_mixture

D = torch.float64


def density(mixture: GaussianMixture, points: torch.Tensor) -> torch.Tensor:
    parts = [
        w * torch.distributions.MultivariateNormal(m, c).log_prob(points).exp()
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    return torch.stack(parts).sum(0)


def test_priors_are_centred_and_of_unit_variance():
    for mixture in (ring_mixture(),):
        samples = mixture.sample(ItemRandom(0, range(40_000))).double()
        assert samples.mean(0).abs().max() < 0.02 and samples.var(0).mean().item() == pytest.approx(1, abs=0.02)
    gaussian = decaying_gaussian(16)
    spread = torch.linalg.eigvalsh(gaussian.covariances[0]).sqrt()
    assert spread.max().item() == pytest.approx(1.6) and spread.min().item() == pytest.approx(0.4)


def test_samples_of_the_prior_follow_its_density():
    mixture = ring_mixture()
    samples = mixture.sample(ItemRandom(0, range(100_000))).double()
    edges = torch.linspace(-3, 3, 13, dtype=D)
    grid = torch.linspace(-3, 3, 601, dtype=D)
    centres = (grid[1:] + grid[:-1]) / 2
    points = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), -1)
    mass = (density(mixture, points) * 0.01**2).reshape(12, 50, 12, 50).sum((1, 3))
    found = torch.histogramdd(samples, [edges, edges]).hist / len(samples)
    assert (mass - found).abs().max() < 5 * (mass.max() / len(samples)).sqrt()


@pytest.fixture(scope="module")
def seen():
    """Three contexts of the plane: unit direction, what is seen, and the direction across."""
    angle = torch.tensor([0.3, 1.4, 2.5], dtype=D)
    along = torch.stack([angle.cos(), angle.sin()], 1)
    across = torch.stack([-angle.sin(), angle.cos()], 1)
    return along, torch.tensor([[0.4], [-0.9], [0.1]], dtype=D), across


def test_the_posterior_is_the_density_along_the_line_of_what_was_seen(seen):
    along, observed, across = seen
    mixture = ring_mixture()
    posterior = mixture.posterior(along[:, None], observed)
    u = torch.linspace(-6, 6, 20_001, dtype=D)
    for i in range(3):
        line = density(mixture, observed[i] * along[i] + u[:, None] * across[i])
        line = line / line.sum()
        mean = (line * u).sum()
        std = ((line * u**2).sum() - mean**2).sqrt()
        found_mean, found_std = (x[i] for x in posterior.moments(across))
        assert found_mean.item() == pytest.approx(mean.item(), abs=1e-6)
        assert found_std.item() == pytest.approx(std.item(), abs=1e-6)
        cdf = posterior.cdf(across, u.expand(3, -1))[i]
        assert (cdf - (line.cumsum(0) - line / 2)).abs().max() < 1e-6


def test_exact_samples_show_what_was_seen_and_follow_the_posterior(seen):
    along, observed, across = seen
    posterior = ring_mixture().posterior(along[:, None], observed)
    samples = posterior.sample(20_000, torch.Generator().manual_seed(0))
    assert torch.allclose(torch.einsum("bnd,bd->bn", samples, along), observed.expand(-1, 20_000), atol=1e-9)
    unseen = torch.einsum("bnd,bd->bn", samples, across).sort(1).values
    steps = (torch.arange(20_000, dtype=D) + 0.5) / 20_000
    assert (posterior.cdf(across, unseen) - steps).abs().max() < 1.95 / math.sqrt(
        20_000
    )  # Kolmogorov, one in a thousand


def test_a_gaussian_seen_in_part_has_the_textbook_posterior():
    gaussian = decaying_gaussian(16)
    matrix = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0), dtype=D)
    observed = torch.tensor([[0.5, -1.0, 0.2, 0.7]], dtype=D)
    posterior = gaussian.posterior(matrix, observed)
    # The limit of a little noise, by the precision form of the linear-Gaussian posterior.
    precision = torch.linalg.inv(gaussian.covariances[0]) + matrix[0].mT @ matrix[0] / 1e-8
    covariance = torch.linalg.inv(precision)
    mean = covariance @ matrix[0].mT @ observed[0] / 1e-8
    assert torch.allclose(posterior.means[0, 0], mean, atol=1e-5)
    assert torch.allclose(posterior.covariances[0, 0], covariance, atol=1e-5)
    samples = posterior.sample(50_000, torch.Generator().manual_seed(1))[0]
    assert torch.allclose(samples.mean(0), mean, atol=0.03)
    assert torch.allclose(torch.cov(samples.T), covariance, atol=0.06)
