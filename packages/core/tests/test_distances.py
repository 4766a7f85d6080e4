"""Distances between sets against closed forms and slow oracles."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from goembed_core.errors import UserError
from goembed_core.metrics.distances import (
    FeatureStatistics,
    frechet_distance,
    frechet_distance_of_statistics,
    kernel_distance,
    kernel_distances_of_subsets,
)


def gaussian(count, mean, covariance, seed=0):
    """Samples whose sample mean and covariance are exactly those given."""
    mean, covariance = torch.as_tensor(mean).double(), torch.as_tensor(covariance).double()
    white = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    white = white - white.mean(0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(white.T))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def random_covariance(dimensions, seed):
    root = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(dimensions, dtype=torch.float64)


def test_frechet_of_gaussians_with_diagonal_covariances():
    a = gaussian(50, [0.0, 1.0, 2.0], torch.diag(torch.tensor([1.0, 4.0, 9.0])), seed=1)
    b = gaussian(70, [1.0, 1.0, 0.0], torch.diag(torch.tensor([4.0, 4.0, 1.0])), seed=2)
    expected = 5.0 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2  # |μa − μb|² + Σ (σa − σb)²
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_gaussians_equals_the_matrix_square_root():
    sigma_a, sigma_b = random_covariance(6, 0), random_covariance(6, 1)
    mean = torch.randn(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    root = scipy.linalg.sqrtm((sigma_a @ sigma_b).numpy()).real
    expected = mean.square().sum() + torch.trace(sigma_a + sigma_b) - 2 * np.trace(root)
    found = frechet_distance(gaussian(100, mean, sigma_a, 3), gaussian(90, mean * 0, sigma_b, 4))
    assert found == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_with_fewer_samples_than_dimensions():
    """Σ = XᵀX / (n − 1), so tr (Σa Σb)^½ is the nuclear norm of Xa Xbᵀ, with no covariance at all."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 200, generator=generator, dtype=torch.float64) * 3 + 1 for n in (12, 17))
    x, y = ((f - f.mean(0)) / math.sqrt(len(f) - 1) for f in (a, b))
    nuclear = torch.linalg.svdvals(x @ y.T).sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum() - 2 * nuclear
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("count", [5, 40])
def test_frechet_of_a_set_with_itself_is_zero(count):
    a = torch.randn(count, 20, generator=torch.Generator().manual_seed(0)) * 10 + 100
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_frechet_is_symmetric_and_does_not_depend_on_a_rotation():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, 8, generator=generator), torch.rand(50, 8, generator=generator)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a.double() @ rotation, b.double() @ rotation) == pytest.approx(frechet_distance(a, b))


def test_features_that_never_change_have_a_distance():
    a, b = torch.zeros(10, 4), torch.ones(10, 4)
    assert frechet_distance(a, b) == 4.0


def test_statistics_in_batches_equal_those_of_all():
    features = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1e3  # far from the origin
    statistics, other = FeatureStatistics(5), FeatureStatistics(5)
    for batch in features[:600].split(37):
        statistics.update(batch)
    other.update(features[600:])
    other.update(features[:0])
    statistics.merge(other)
    statistics.merge(FeatureStatistics(5))
    assert statistics.count == 1000
    torch.testing.assert_close(statistics.mean, features.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(statistics.covariance, torch.cov(features.double().T), rtol=1e-9, atol=1e-16)
    whole = FeatureStatistics.of(features)
    assert frechet_distance_of_statistics(statistics, whole) == pytest.approx(0, abs=1e-10)


def kernel_by_loops(a, b):
    def k(x, y):
        return (float(x.double() @ y.double()) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


@pytest.mark.parametrize("block_size", [1, 4, 100])
def test_kernel_equals_the_loops(block_size):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(9, 5, generator=generator), torch.rand(7, 5, generator=generator) + 0.5
    assert kernel_distance(a, b, block_size) == pytest.approx(kernel_by_loops(a, b), rel=1e-9)


def test_kernel_of_gaussians_in_one_dimension():
    """For d = 1, MMD² = Σⱼ C(3, j) (E xʲ − E yʲ)²; x ~ N(0, 1) and y ~ N(1, 1) give 3 + 3 + 16 = 22."""
    generator = torch.Generator().manual_seed(0)
    subsets = kernel_distances_of_subsets(
        torch.randn(20000, 1, generator=generator),
        torch.randn(20000, 1, generator=generator) + 1,
        generator,
        num_subsets=40,
        subset_size=500,
    )
    error = subsets.std() / math.sqrt(len(subsets))
    assert subsets.mean().item() == pytest.approx(22, abs=4 * error.item() + 0.5)
    assert error < 1


def test_kernel_of_alike_sets_is_unbiased():
    """The mean over many small sets of one distribution is zero within its error; with the diagonal it would not be."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(4000, 3, generator=generator), torch.rand(4000, 3, generator=generator)
    subsets = kernel_distances_of_subsets(a, b, generator, num_subsets=400, subset_size=10)
    error = subsets.std().item() / math.sqrt(len(subsets))
    assert abs(subsets.mean().item()) < 4 * error
    assert subsets.min() < 0 < subsets.max()


def test_subsets_follow_the_generator():
    a = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))

    def subsets(seed):
        return kernel_distances_of_subsets(a, a + 1, torch.Generator().manual_seed(seed), 3, 10)

    assert torch.equal(subsets(1), subsets(1))
    assert not torch.equal(subsets(1), subsets(2))


def test_a_subset_of_all_is_the_whole():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(20, 3, generator=generator), torch.rand(20, 3, generator=generator)
    subsets = kernel_distances_of_subsets(a, b, generator, num_subsets=2, subset_size=20)
    assert subsets.tolist() == pytest.approx([kernel_distance(a, b)] * 2)


def test_errors_say_what_is_wrong():
    a = torch.zeros(5, 3)
    with pytest.raises(UserError, match="3 dimensions with features of 4; both sets must come from the same network"):
        frechet_distance(a, torch.zeros(5, 4))
    with pytest.raises(UserError, match="at least 2 samples in each; got 5 and 1"):
        kernel_distance(a, a[:1])
    with pytest.raises(UserError, match=r"subset_size=6 cannot be drawn from sets of 5 and 5.*between 2 and 5"):
        kernel_distances_of_subsets(a, a, torch.Generator(), subset_size=6)
    with pytest.raises(UserError, match=r"floating-point matrix.*torch.int64 of shape \(5, 3\)"):
        frechet_distance(a.long(), a)
    with pytest.raises(UserError, match="not finite"):
        frechet_distance(a / 0, a)
    with pytest.raises(UserError, match="of 3 dimensions were added to statistics of 4"):
        FeatureStatistics(4).update(a)
    with pytest.raises(UserError, match="have seen 0"):
        _ = FeatureStatistics(4).covariance
