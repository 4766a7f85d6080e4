"""The denoiser of the check: a residual MLP on back-projected observations."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.traits import DenoiserTraits
from jaxtyping import Float, Num
from torch import Tensor, nn

from goembed_posterior_check.config import ProjectionMLPConfig
from goembed_posterior_check.linear import Projection


class ProjectionMLP(nn.Module):
    """`S = MLP(Σ Aᵀo, Σ AᵀA of the context; Aᵀo, AᵀA of the noisy target; t)`.

    The sums over views hold all that a set of noiseless linear observations says, whatever their number and order; a
    view whose matrix is zero says nothing.  (`Aᵀo` is the negative gradient of the squared error at `S = 0`.)
    """

    conformance = DenoiserTraits(uses_params=True, context_is_a_set=True)

    def __init__(self, config: ProjectionMLPConfig):
        super().__init__()
        self.config = config
        size = 2 * (config.dim + config.dim**2) + 2 * config.frequencies
        self.linear_in = nn.Linear(size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config.hidden_size) for _ in range(config.depth))
        self.linear_out = nn.Linear(config.hidden_size, config.dim)
        nn.init.zeros_(self.linear_out.weight)
        nn.init.zeros_(self.linear_out.bias)

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
        features = [*back_project(context), *back_project(noisy_target), self._waves(timestep)]
        x = self.linear_in(torch.cat(features, 1))
        for block in self.blocks:
            x = x + block(x)
        return self.linear_out(F.silu(x))

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Observations, Observations, Num[Tensor, " batch"]]:
        """Two views for context, and one for target, of one random projection each."""
        matrix = torch.randn(batch_size, 3, 1, self.config.dim, generator=generator, device=generator.device)
        values = torch.randn(batch_size, 3, 1, generator=generator, device=generator.device)
        context = Observations(values[:, :2], Projection(matrix[:, :2]))
        timestep = torch.randint(0, 1000, (batch_size,), generator=generator, device=generator.device)
        return context, Observations(values[:, 2:], Projection(matrix[:, 2:])), timestep

    def _waves(self, timestep: Num[Tensor, " batch"]) -> Float[Tensor, "batch waves"]:
        """Sines and cosines of `t`, with periods from 4 to 4000."""
        dtype = self.linear_in.weight.dtype
        exponent = torch.linspace(0, 3, self.config.frequencies, dtype=dtype, device=timestep.device)
        angle = timestep.to(dtype)[:, None] * (2 * math.pi / 4) * 10**-exponent
        return torch.cat([angle.sin(), angle.cos()], 1)


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


def back_project(observations: Observations) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim_squared"]]:
    """`Σ_v A_vᵀ o_v` and `Σ_v A_vᵀ A_v`."""
    matrix = observations.params.matrix
    values = observations.values.to(matrix.dtype)
    back = torch.einsum("bvod,bvo->bd", matrix, values)
    gram = torch.einsum("bvod,bvoe->bde", matrix, matrix)
    return back, gram.flatten(1)
