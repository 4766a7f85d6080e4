"""Gaussian mixtures, and their exact posteriors under linear observation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.randomness import ItemRandom
from jaxtyping import Float
from torch import Tensor


class GaussianMixture(NamedTuple):
    """`p(S) = Σ_k π_k N(S; μ_k, Σ_k)`, in float64."""

    weights: Float[Tensor, " components"]
    means: Float[Tensor, "components dim"]
    covariances: Float[Tensor, "components dim dim"]

    @property
    def dim(self) -> int:
        """Numbers of a signal."""
        return self.means.shape[1]

    def sample(self, random: ItemRandom) -> Float[Tensor, "batch dim"]:
        """One signal of each item, in float32."""
        return self._draw(random.rand(), random.randn(self.dim)).float()

    def posterior(
        self, matrix: Float[Tensor, "batch rows dim"], observed: Float[Tensor, "batch rows"]
    ) -> LinearPosterior:
        """`p(S | A S = o)` of each item: a mixture again, flat in the observed directions.

        Component k has weight `π_k N(o; Aμ_k, AΣ_kAᵀ)`, mean `μ_k + G_k (o − Aμ_k)` and covariance `(I − G_kA) Σ_k`,
        with the gain `G_k = Σ_kAᵀ (AΣ_kAᵀ)⁻¹`.
        """
        a, o = matrix.double(), observed.double()
        cross = torch.einsum("kde,bre->bkdr", self.covariances, a)
        inner = torch.einsum("brd,bkds->bkrs", a, cross)
        gains = torch.linalg.solve(inner, cross.mT).mT
        missing = o[:, None] - torch.einsum("brd,kd->bkr", a, self.means)
        likelihood = torch.distributions.MultivariateNormal(torch.zeros_like(missing), inner).log_prob(missing)
        means = self.means + torch.einsum("bkdr,bkr->bkd", gains, missing)
        covariances = self.covariances - torch.einsum("bkdr,bker->bkde", gains, cross)
        return LinearPosterior(self, a, o, (self.weights.log() + likelihood).softmax(1), means, covariances, gains)

    def _draw(self, uniform: Float[Tensor, "*batch"], normal: Float[Tensor, "*batch dim"]) -> Tensor:
        edges = self.weights.cumsum(0)[:-1].to(uniform.device)
        component = (uniform.double()[..., None] >= edges).sum(-1)
        return self._of_component(component, normal)

    def _of_component(self, component: Tensor, normal: Tensor) -> Float[Tensor, "*batch dim"]:
        factors = torch.linalg.cholesky(self.covariances)[component]
        return self.means[component] + torch.einsum("...de,...e->...d", factors, normal.double())


class LinearPosterior(NamedTuple):
    """The exact posteriors of a batch of observations."""

    prior: GaussianMixture
    matrix: Float[Tensor, "batch rows dim"]
    observed: Float[Tensor, "batch rows"]
    weights: Float[Tensor, "batch components"]
    means: Float[Tensor, "batch components dim"]
    covariances: Float[Tensor, "batch components dim dim"]  # singular in the observed directions
    gains: Float[Tensor, "batch components dim rows"]

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch count dim"]:
        """Exact samples, by Matheron's rule: a signal of the component, moved by the gain onto what was observed."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        normal = torch.randn(*component.shape, self.prior.dim, generator=generator, dtype=torch.float64)
        signal = self.prior._of_component(component, normal)
        missing = self.observed[:, None] - torch.einsum("brd,bnd->bnr", self.matrix, signal)
        gains = torch.gather(self.gains, 1, component[:, :, None, None].expand(-1, -1, *self.gains.shape[2:]))
        return signal + torch.einsum("bndr,bnr->bnd", gains, missing)

    def moments(self, direction: Float[Tensor, "batch dim"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of `dᵀS`, each `(batch,)`."""
        means = torch.einsum("bkd,bd->bk", self.means, direction.double())
        variances = torch.einsum("bd,bkde,be->bk", direction.double(), self.covariances, direction.double())
        mean = (self.weights * means).sum(1)
        variance = (self.weights * (variances + means**2)).sum(1) - mean**2
        return mean, variance.clamp(min=0).sqrt()

    def cdf(self, direction: Float[Tensor, "batch dim"], value: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """`P(dᵀS ≤ value)`."""
        means = torch.einsum("bkd,bd->bk", self.means, direction.double())
        variances = torch.einsum("bd,bkde,be->bk", direction.double(), self.covariances, direction.double())
        normal = (value.double()[:, :, None] - means[:, None]) / variances.clamp(min=1e-300).sqrt()[:, None]
        return (self.weights[:, None] * torch.special.ndtr(normal)).sum(2)


def ring_mixture() -> GaussianMixture:
    """The 2-D prior: five narrow, tilted Gaussians of unequal weight around a circle; zero mean, unit variance."""
    weights = torch.tensor([0.3, 0.25, 0.2, 0.15, 0.1], dtype=torch.float64)
    angle = 2 * torch.pi * torch.arange(5, dtype=torch.float64) / 5
    means = 1.6 * torch.stack([angle.cos(), angle.sin()], 1)
    tilt = angle + 0.7
    axes = torch.stack([torch.stack([tilt.cos(), tilt.sin()], 1), torch.stack([-tilt.sin(), tilt.cos()], 1)], 2)
    spread = torch.tensor([0.45, 0.2], dtype=torch.float64)
    covariances = torch.einsum("kde,e,kfe->kdf", axes, spread**2, axes)
    mean = weights @ means
    total = torch.einsum("k,kde->de", weights, covariances + means[:, :, None] * means[:, None]) - mean.outer(mean)
    scale = (total.trace() / 2).sqrt()
    return GaussianMixture(weights, (means - mean) / scale, covariances / scale**2)


def decaying_gaussian(dim: int) -> GaussianMixture:
    """The Gaussian prior: random axes, standard deviations that fall from 1.6 to 0.4, zero mean."""
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    spread = torch.logspace(0, -1, dim, base=4.0, dtype=torch.float64) * 1.6
    covariance = axes @ torch.diag(spread**2) @ axes.mT
    return GaussianMixture(
        torch.ones(1, dtype=torch.float64), torch.zeros(1, dim, dtype=torch.float64), covariance[None]
    )
