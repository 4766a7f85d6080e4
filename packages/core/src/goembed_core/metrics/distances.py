"""Distances between two sets of features: Fréchet (Heusel et al. 2017) and kernel (Bińkowski et al. 2018).

All arithmetic is float64.  No gradient flows: these are measurements, not losses.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from goembed_core.errors import UserError


class FeatureStatistics:
    """Mean and covariance of features that arrive in batches, without keeping them (Chan et al. 1979, eq. 2.1)."""

    def __init__(self, num_features: int, device: torch.device | str = "cpu"):
        self.count = 0
        self.mean = torch.zeros(num_features, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)  # Σ (x−μ)(x−μ)ᵀ

    @classmethod
    def of(cls, features: Float[Tensor, "n features"]) -> FeatureStatistics:
        """The statistics of one set of features."""
        _check_features("features", features)
        statistics = cls(features.shape[1], features.device)
        statistics.update(features)
        return statistics

    @torch.no_grad()
    def update(self, features: Float[Tensor, "n features"]) -> None:
        """Add a batch."""
        _check_features("features", features)
        if features.shape[1] != len(self.mean):
            raise UserError(f"features of {features.shape[1]} dimensions were added to statistics of {len(self.mean)}")
        if len(features) == 0:
            return
        batch = features.double()
        mean = batch.mean(0)
        centred = batch - mean
        self._combine(len(batch), mean, centred.T @ centred)

    def merge(self, other: FeatureStatistics) -> None:
        """Add what another accumulator (of another process, say) has seen."""
        if other.count:
            self._combine(other.count, other.mean, other.scatter)

    @property
    def covariance(self) -> Float[Tensor, "features features"]:
        """The unbiased covariance, `scatter / (n − 1)`."""
        if self.count < 2:
            raise UserError(f"a covariance needs at least 2 samples; these statistics have seen {self.count}")
        return self.scatter / (self.count - 1)

    def _combine(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


@torch.no_grad()
def frechet_distance(features_a: Float[Tensor, "n features"], features_b: Float[Tensor, "m features"]) -> float:
    """`|μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½)`, the squared Fréchet distance of the Gaussians fitted to two sets.

    It is biased upwards by the finite number of samples: compare figures of the same `n` and the same features only.
    """
    _check_pair(features_a, features_b)
    return frechet_distance_of_statistics(FeatureStatistics.of(features_a), FeatureStatistics.of(features_b))


@torch.no_grad()
def frechet_distance_of_statistics(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """`frechet_distance` from statistics.

    With `Σ = L Lᵀ`, the eigenvalues of `Σa Σb` are the squared singular values of `Laᵀ Lb`, so that the last trace is
    the nuclear norm of `Laᵀ Lb`: nothing is inverted, and covariances of too few samples (rank < dimension) are as good
    as any.
    """
    if len(a.mean) != len(b.mean):
        raise UserError(f"cannot compare features of {len(a.mean)} dimensions with features of {len(b.mean)}")
    cross = torch.linalg.svdvals(_factor(a.covariance).T @ _factor(b.covariance)).sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(distance.item(), 0.0)  # equal sets would give −1e-13


def _factor(covariance: Float[Tensor, "features features"]) -> Float[Tensor, "features rank"]:
    """`L` with `L Lᵀ = covariance`, without the directions that are zero but for rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


@torch.no_grad()
def kernel_distance(
    features_a: Float[Tensor, "n features"], features_b: Float[Tensor, "m features"], block_size: int = 512
) -> float:
    """The unbiased squared maximum mean discrepancy of two whole sets (Gretton et al. 2012, eq. 3), kernel as in KID.

    `k(x, y) = (x·y / d + 1)³`.  Unbiased: it may be negative when the sets are alike.  `block_size` bounds the memory.
    """
    _check_pair(features_a, features_b)
    a, b = features_a.double(), features_b.double()
    n, m = len(a), len(b)
    within = (_kernel_sum(a, a, block_size) - _kernel_of_itself(a)) / (n * (n - 1)) + (
        _kernel_sum(b, b, block_size) - _kernel_of_itself(b)
    ) / (m * (m - 1))
    return (within - 2 * _kernel_sum(a, b, block_size) / (n * m)).item()


@torch.no_grad()
def kernel_distances_of_subsets(
    features_a: Float[Tensor, "n features"],
    features_b: Float[Tensor, "m features"],
    generator: torch.Generator,
    num_subsets: int = 100,
    subset_size: int = 1000,
) -> Float[Tensor, " num_subsets"]:
    """`kernel_distance` of random subsets of both sets; their mean is the published KID, their spread its error.

    A subset is drawn without replacement; one larger than a set is an error, since the figure depends on nothing else.
    """
    _check_pair(features_a, features_b)
    smallest = min(len(features_a), len(features_b))
    if not 2 <= subset_size <= smallest:
        raise UserError(
            f"subset_size={subset_size} cannot be drawn from sets of {len(features_a)} and {len(features_b)} features; "
            f"give one between 2 and {smallest}"
        )
    distances = [
        kernel_distance(
            features_a[_subset(len(features_a), subset_size, generator).to(features_a.device)],
            features_b[_subset(len(features_b), subset_size, generator).to(features_b.device)],
        )
        for _ in range(num_subsets)
    ]
    return torch.tensor(distances, dtype=torch.float64)


def _subset(count: int, size: int, generator: torch.Generator) -> Int[Tensor, " size"]:
    return torch.randperm(count, generator=generator, device=generator.device)[:size]


def _kernel(dot: Tensor, num_features: int) -> Tensor:
    return (dot / num_features + 1) ** 3


def _kernel_sum(a: Float[Tensor, "n features"], b: Float[Tensor, "m features"], block_size: int) -> Float[Tensor, ""]:
    """`Σᵢⱼ k(aᵢ, bⱼ)` over blocks of rows."""
    return torch.stack([_kernel(rows @ b.T, a.shape[1]).sum() for rows in a.split(block_size)]).sum()


def _kernel_of_itself(a: Float[Tensor, "n features"]) -> Float[Tensor, ""]:
    """`Σᵢ k(aᵢ, aᵢ)`, which the unbiased estimate leaves out."""
    return _kernel(a.square().sum(1), a.shape[1]).sum()


def _check_pair(features_a: Tensor, features_b: Tensor) -> None:
    _check_features("features_a", features_a)
    _check_features("features_b", features_b)
    if features_a.shape[1] != features_b.shape[1]:
        raise UserError(
            f"cannot compare features of {features_a.shape[1]} dimensions with features of {features_b.shape[1]}; "
            "both sets must come from the same network"
        )
    if min(len(features_a), len(features_b)) < 2:
        raise UserError(
            f"a distance between sets needs at least 2 samples in each; got {len(features_a)} and {len(features_b)}"
        )


def _check_features(name: str, features: Tensor) -> None:
    if features.ndim != 2 or not features.is_floating_point():
        raise UserError(
            f"{name} must be a floating-point matrix (samples, dimensions); "
            f"got {features.dtype} of shape {tuple(features.shape)}"
        )
    if not features.isfinite().all():
        raise UserError(f"{name} contain numbers that are not finite; the network or its images are broken")
