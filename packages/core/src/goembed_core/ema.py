"""Exponential moving average of a module, with its half-life in images."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class EMA:
    """Averaged copies of modules: `θ_ema ← lerp(θ, θ_ema, ½^(images / half-life))`.

    **Arguments:**
    - `modules`: what to average, by name.  Parameters are averaged in float32, buffers are copied.
    - `halflife_nimg`: half-life in images, so that it does not depend on the batch size.
    - `rampup`: the half-life is never longer than this fraction of the images seen; None is off.
    """

    def __init__(self, modules: dict[str, nn.Module], halflife_nimg: float, rampup: float | None = 0.05):
        self.halflife_nimg = halflife_nimg
        self.rampup = rampup
        self.sources = modules
        self.modules = {name: copy.deepcopy(module).eval().requires_grad_(False) for name, module in modules.items()}

    def decay(self, images_seen: int, batch_size: int) -> float:
        """The factor that the average keeps over a step of `batch_size` images."""
        halflife = self.halflife_nimg
        if self.rampup is not None:
            halflife = min(halflife, images_seen * self.rampup)
        return 0.5 ** (batch_size / max(halflife, 1e-8))

    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """Move every average towards its source, after a step."""
        averaged, current = zip(*self._parameters(), strict=True)
        torch._foreach_lerp_(list(averaged), list(current), 1.0 - self.decay(images_seen, batch_size))
        for name, source in self.sources.items():
            for target, value in zip(self.modules[name].buffers(), source.buffers(), strict=True):
                target.copy_(value)

    def _parameters(self) -> Iterator[tuple[Tensor, Tensor]]:
        for name, source in self.sources.items():
            yield from zip(self.modules[name].parameters(), source.parameters(), strict=True)
