"""The scale of each channel of a gradient: measured once, on the first batch, then learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from goembed_core.errors import UserError
from jaxtyping import Float, Num
from torch import Tensor, distributed, nn

from goembed_encoder.config import EncodingConfig

FREQUENCIES = 8
FLOOR = 1e-3  # of a leaf's root mean square: channels below it are hardly ever seen, and are not blown up to one


class Scale(nn.Module):
    """`s = gain · (1 + f(t)) / rms`, for every step and channel; `f` is zero at first, and without a timestep.

    Raw gradients are of the size 1e-6, and nobody knows it beforehand.  `rms` is that of the first batch in training
    mode, over all processes.  It is a buffer, as is whether it was measured: both are saved, loaded and averaged with
    the rest.  Until then it is 1.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], config: EncodingConfig):
        super().__init__()
        unknown = config.leaf_gain.keys() - shapes.keys()
        if unknown:
            raise UserError(
                f"leaf_gain of {', '.join(sorted(unknown))}: the leaves of the signal are {', '.join(shapes)}"
            )
        self.dims = [[d for d in config.scale_dims if d < len(shape)] for shape in shapes.values()]
        self.widths = [math.prod(s[d] for d in dims) for s, dims in zip(shapes.values(), self.dims, strict=True)]
        size = (config.steps, sum(self.widths))
        begin = [1.0 if name in config.leaf_gain else config.gain for name in shapes]
        units = [config.leaf_gain.get(name, 1.0) for name in shapes]  # of one gain, that a leaf's own learns as fast
        self.gain = nn.Parameter(_repeated(begin, self.widths).repeat(config.steps, 1))
        self.register_buffer("unit", _repeated(units, self.widths), persistent=False)
        self.register_buffer("rms", torch.ones(size))
        self.register_buffer("measured", torch.zeros(config.steps, dtype=torch.bool))
        self.timesteps = config.timesteps
        if config.timesteps is not None:
            self.of_time = nn.Linear(FREQUENCIES, math.prod(size))
            nn.init.zeros_(self.of_time.weight)
            nn.init.zeros_(self.of_time.bias)
        self._known: set[int] = set()  # steps that are known to be measured, so that the device need not be asked
        self.register_load_state_dict_post_hook(Scale._forget)

    def forward(
        self, gradients: Sequence[Float[Tensor, "batch ..."]], step: int, timestep: Num[Tensor, " batch"] | None
    ) -> list[Float[Tensor, "batch ..."]]:
        """The gradients of all leaves of a signal, scaled; in training mode they are measured if none were before."""
        if self.training and step not in self._known:
            if not self.measured[step]:
                self._measure(gradients, step)
            if self.measured[step]:
                self._known.add(step)
        rms = self.rms[step].clone()  # a later step's measurement writes to the buffer
        scale = (self.unit * self.gain[step] / rms)[None]
        if timestep is not None:
            order = torch.arange(FREQUENCIES, device=timestep.device)
            features = torch.cos(math.pi / self.timesteps * timestep.to(scale.dtype)[:, None] * order)
            of_time = self.of_time(features).unflatten(1, (len(self.gain), -1))[:, step]
            scale = scale * (1 + of_time)
        parts = scale.split(self.widths, 1)
        return [g * p.reshape(self._shape(g, d)) for g, p, d in zip(gradients, parts, self.dims, strict=True)]

    @torch.no_grad()
    def _measure(self, gradients: Sequence[Tensor], step: int) -> None:
        """Keep the root mean square of each channel over the signals of which anything was seen."""
        squares, counts = [], []
        for gradient, dims in zip(gradients, self.dims, strict=True):
            seen = (gradient[:, None] != 0).flatten(1).any(1).sum()
            rest = [d for d in range(gradient.dim()) if d not in dims]
            square = gradient.detach().square().sum(rest).flatten()
            squares.append(square)
            numbers = math.prod(gradient.shape[d] for d in rest[1:])
            counts.append((seen * numbers).to(square.dtype).expand(len(square)))
        sums = torch.stack([torch.cat(squares), torch.cat(counts)])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        if not sums[0].any():  # nothing was seen: the next batch will tell
            return
        rms = (sums[0] / sums[1].clamp(min=1)).sqrt()
        for part, place in zip(rms.split(self.widths), self.rms[step].split(self.widths), strict=True):
            floor = FLOOR * part.square().mean().sqrt()
            place.copy_(torch.where(floor > 0, part.maximum(floor), 1.0))
        self.measured[step] = True

    def _shape(self, gradient: Tensor, dims: list[int]) -> list[int]:
        return [-1] + [gradient.shape[d] if d in dims else 1 for d in range(1, gradient.dim())]

    def _forget(self, incompatible: object) -> None:
        self._known.clear()


def _repeated(values: Sequence[float], counts: Sequence[int]) -> Float[Tensor, " n"]:
    """Each value so many times."""
    return torch.cat([torch.full((count,), value) for value, count in zip(values, counts, strict=True)])
