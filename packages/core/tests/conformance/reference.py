"""A right forward model, and the slow oracle beside it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.config import Config
from goembed_core.errors import UserError
from goembed_core.shapes import require_views
from goembed_core.testing import ForwardModelTraits
from torch import Tensor, nn


class Photo(NamedTuple):
    image: Tensor  # (B, 1, H, W)
    gain: Tensor  # (B,)


class Lens(NamedTuple):
    width_px: Tensor  # (B, V)
    shift_px: Tensor  # (B, V, 2), x and y


class BlurConfig(Config):
    contrast: float = 1.0
    taps: list[int] = [1, 2, 1]  # noqa: RUF012 - pydantic copies it


class Blur(nn.Module):
    """`O = gain · contrast · (A_y image A_xᵀ) + floor`: a shifted Gaussian blur, and a trained brightness."""

    conformance = ForwardModelTraits(twice_differentiable=True)
    side = 6

    def __init__(self, config: BlurConfig):
        super().__init__()
        self.config = config
        self.floor = nn.Parameter(torch.randn(1))
        self.register_buffer("contrast", torch.tensor([config.contrast]))

    def forward(self, signal, params):
        if signal.image.dim() != 4 or signal.gain.shape != signal.image.shape[:1]:
            raise UserError(
                f"image {tuple(signal.image.shape)}, gain {tuple(signal.gain.shape)}: expected (B, C, H, W), (B,)"
            )
        require_views(params, len(signal.image), width_px=(), shift_px=(2,))
        return self.observe(signal, params)

    def observe(self, signal, params):
        height, width = signal.image.shape[-2:]
        columns = self.weights(width, params.shift_px[..., 0], params.width_px)
        rows = self.weights(height, params.shift_px[..., 1], params.width_px)
        blurred = torch.einsum("bvyi,bcij,bvxj->bvcyx", rows, signal.image, columns)
        return blurred * (signal.gain[:, None] * self.contrast)[..., None, None, None] + self.floor

    def weights(self, size, shift, width):
        index = torch.arange(size, device=shift.device, dtype=shift.dtype)
        distance = index[:, None] - index - shift[..., None, None]
        return torch.softmax(-0.5 * (distance / width[..., None, None]).square(), -1)

    def example(self, batch_size, generator):
        image = torch.randn(batch_size, 1, self.side, self.side, generator=generator)
        gain = torch.rand(batch_size, generator=generator) + 0.5
        width = torch.rand(batch_size, 2, generator=generator) + 0.5
        return Photo(image, gain), Lens(width, torch.randn(batch_size, 2, 2, generator=generator))


def oracle(model, signal, params):
    """Pixel by pixel."""
    batch, channels, height, width = signal.image.shape
    views = params.width_px.shape[1]
    output = torch.zeros(batch, views, channels, height, width, dtype=signal.image.dtype)
    for b in range(batch):
        for v in range(views):
            x0, y0 = params.shift_px[b, v]
            taps = {}
            for size, shift in ((width, x0), (height, y0)):
                taps[size, float(shift)] = [
                    torch.exp(-0.5 * ((i - torch.arange(size) - shift) / params.width_px[b, v]) ** 2)
                    for i in range(size)
                ]
            for y in range(height):
                for x in range(width):
                    column, row = taps[width, float(x0)][x], taps[height, float(y0)][y]
                    seen = (signal.image[b] * torch.outer(row, column)).sum((-1, -2)) / (row.sum() * column.sum())
                    output[b, v, :, y, x] = seen * signal.gain[b] * model.config.contrast + model.floor
    return output.detach()
