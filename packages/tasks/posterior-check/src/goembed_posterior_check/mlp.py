"""The denoiser of the check: a residual MLP whose guess agrees with what was observed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.schedule import NoiseSchedule
from goembed_core.traits import DenoiserTraits
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from goembed_posterior_check.config import ProjectionMLPConfig
from goembed_posterior_check.linear import Projection

TINY = 1e-8  # variance on noiseless rows: views may repeat what others show


class ProjectionMLP(nn.Module):
    """A guess by a network, made to agree with what was observed, to its noise.

    Context and noisy target are linear observations `y = A S + r`, `r ~ N(0, R)`, with `R = 0` for the context and
    `(1−ᾱ_t)/ᾱ_t` for the target over `√ᾱ_t`.  With the gain `G = Aᵀ(AAᵀ + R)⁻¹` of a standard normal signal,

        S = S' + G (y + √R A n' − A S'),    S', n' = MLP(G y, I − GA, t):

    Matheron's rule, with a network where a sampler has random numbers.  Its error is as small as the observations are
    good, in each direction: nothing where the context has looked, √R where the target has.  `G y` and `I − GA`, mean
    and covariance of that signal, hold all that a set of observations says, whatever their number and order; a view
    whose matrix is zero says nothing.
    """

    conformance = DenoiserTraits(uses_params=True, context_is_a_set=True)

    def __init__(self, config: ProjectionMLPConfig):
        super().__init__()
        self.config = config
        self.schedule = NoiseSchedule(config.schedule)
        size = config.dim + config.dim**2 + 2 * config.time_frequencies + 2 * config.fourier_features
        self.linear_in = nn.Linear(size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config.hidden_size) for _ in range(config.depth))
        self.linear_out = nn.Linear(config.hidden_size, 2 * config.dim)
        nn.init.zeros_(self.linear_out.weight)
        nn.init.zeros_(self.linear_out.bias)
        generator = torch.Generator().manual_seed(0)  # the same features in every network
        frequencies = config.fourier_scale * torch.randn(config.dim, config.fourier_features, generator=generator)
        self.register_buffer("fourier", frequencies)

    def forward(
        self, context: Observations, noisy_target: Observations, timestep: Num[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """The signal."""
        for name, part in (("context", context), ("noisy target", noisy_target)):
            matrix, values = tuple(part.params.matrix.shape), tuple(part.values.shape)
            if len(matrix) != 4 or matrix[:3] != values or matrix[3] != self.config.dim or timestep.shape != matrix[:1]:
                raise UserError(
                    f"the {name} has values of shape {values} and projections of shape {matrix} and timesteps of "
                    f"shape {tuple(timestep.shape)}, expected (batch, views, observed), (batch, views, observed, "
                    f"dim={self.config.dim}) and (batch,)"
                )
        known = self._linear_posterior(context, noisy_target, timestep.long())
        dtype = self.linear_in.weight.dtype
        mean, covariance, from_noise = (x.to(dtype) for x in known)
        phase = mean @ self.fourier
        features = [mean, covariance.flatten(1), *_waves(timestep, self.config.time_frequencies, dtype)]
        x = self.linear_in(torch.cat([*features, phase.sin(), phase.cos()], 1))
        for block in self.blocks:
            x = x + block(x)
        guess, noise = self.linear_out(F.silu(x)).to(dtype).chunk(2, 1)
        return mean + torch.einsum("bij,bj->bi", covariance, guess) + torch.einsum("bij,bj->bi", from_noise, noise)

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Observations, Observations, Num[Tensor, " batch"]]:
        """Two views for context, and one for target, of one random projection each."""
        matrix = torch.randn(batch_size, 3, 1, self.config.dim, generator=generator, device=generator.device)
        values = torch.randn(batch_size, 3, 1, generator=generator, device=generator.device)
        context = Observations(values[:, :2], Projection(matrix[:, :2]))
        steps = self.config.schedule.num_timesteps
        timestep = torch.randint(0, steps, (batch_size,), generator=generator, device=generator.device)
        return context, Observations(values[:, 2:], Projection(matrix[:, 2:])), timestep

    def _linear_posterior(
        self, context: Observations, target: Observations, timestep: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim dim"], Float[Tensor, "batch dim dim"]]:
        """`G y`, `I − GA`, and `G √R A`: the mean, and what guesses of the signal and of the noise add to it.

        In float64: two views of almost one direction make `AAᵀ + R` nearly singular.
        """
        scale, variance = (x.double()[:, None] for x in self.schedule.observed_as(timestep))
        seen = [part.params.matrix.flatten(1, 2).double() for part in (context, target)]
        a = torch.cat(seen, 1)
        y = torch.cat([context.values.flatten(1).double(), target.values.flatten(1).double() / scale], 1)
        r = torch.cat([torch.zeros_like(seen[0][:, :, 0]), variance.expand(-1, seen[1].shape[1])], 1)
        gain = torch.linalg.solve(a @ a.mT + torch.diag_embed(r + TINY), a).mT
        mean = torch.einsum("bdr,br->bd", gain, y)
        covariance = torch.eye(self.config.dim, dtype=a.dtype, device=a.device) - gain @ a
        return mean, covariance, (gain * r.sqrt()[:, None]) @ a


class Block(nn.Module):
    """Normalisation, a wider layer, and back."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.linear_in = nn.Linear(hidden_size, hidden_size)
        self.linear_out = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch hidden"]:
        """The residual."""
        return self.linear_out(F.silu(self.linear_in(self.norm(x))))


def _waves(timestep: Num[Tensor, " batch"], count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`count` sines and cosines of `t`, `(batch, count)` each, with periods from 4 to 4000."""
    exponent = torch.linspace(0, 3, count, dtype=dtype, device=timestep.device)
    angle = timestep.to(dtype)[:, None] * (2 * math.pi / 4) * 10**-exponent
    return angle.sin(), angle.cos()
