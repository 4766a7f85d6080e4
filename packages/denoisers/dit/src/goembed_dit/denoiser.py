"""The diffusion transformer as a denoiser of observations."""

from __future__ import annotations

import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from jaxtyping import Float, Num
from torch import Tensor, nn

from goembed_dit.config import DiTConfig
from goembed_dit.network import DiT


class DiTDenoiser(nn.Module):
    """`S = DiT(O_ctxt ‖ O_t_trgt, t)` (DFM eq. 4): all views of the context, then of the noisy target, as channels.

    It looks at the values alone: what it has to see of `φ`, say a mask, has to be among their channels.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        self.network = DiT(config)

    def forward(
        self,
        context: Observations | None,
        noisy_target: Observations,
        timestep: Num[Tensor, " batch"],
        condition: Float[Tensor, "batch condition_dim"] | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """The head's output for `context.values (B, Vc, Cc, H, W)` before `noisy_target.values (B, Vt, Ct, H, W)`.

        Without a context the noisy target alone has to fill `in_channels`.
        """
        parts = {"context": context} if context is not None else {}
        parts["noisy target"] = noisy_target
        self.check(parts)
        values = torch.cat([part.values.flatten(1, 2) for part in parts.values()], dim=1)
        return self.network(values, timestep, condition)

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Observations | None, Observations, Num[Tensor, " batch"]]:
        """Noise, one view of each part, half of `in_channels` in the target; `φ`, which is not looked at, is None."""
        shape = (batch_size, 1, self.config.in_channels, self.config.height, self.config.width)
        values = torch.randn(shape, generator=generator, device=generator.device)
        split = self.config.in_channels // 2
        context = Observations(values[:, :, :split], None) if split else None
        timestep = torch.randperm(1000, generator=generator, device=generator.device)[:batch_size]
        return context, Observations(values[:, :, split:], None), timestep

    def check(self, parts: dict[str, Observations]) -> None:
        """Say which part does not fit the other, or brings how many channels when they are not as configured."""
        for name, part in parts.items():
            if part.values.dim() != 5:
                raise UserError(
                    f"the {name} has values of shape {tuple(part.values.shape)}, "
                    "expected (batch, views, channels, height, width)"
                )
        sizes = {name: (len(part.values), *part.values.shape[3:]) for name, part in parts.items()}
        if len(set(sizes.values())) > 1:
            given = " and ".join(f"{name} is {size}" for name, size in sizes.items())
            raise UserError(f"context and noisy target need equal (batch, height, width), but {given}")

        counts = {name: part.values.shape[1:3] for name, part in parts.items()}
        total = sum(views * channels for views, channels in counts.values())
        if total != self.config.in_channels:
            given = " and ".join(f"{name}: {v} views of {c} channels" for name, (v, c) in counts.items())
            raise UserError(
                f"the DiT is configured for in_channels={self.config.in_channels}, but was given {total} ({given}): "
                f"set in_channels={total}, or give what it was configured for"
            )
