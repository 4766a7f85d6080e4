"""Voxels that are rendered, which need goembed-nerf-renderer."""

from __future__ import annotations

import torch
from goembed_core.errors import UserError
from goembed_core.protocols import OriginView
from goembed_core.shapes import require_views
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import FieldSamples
from goembed_nerf_renderer.renderer import VolumeRenderer
from torch import nn
from torch.nn import functional as F


class Decoder(nn.Module):
    """A feature to density and colour, wherever it is."""

    def __init__(self, channels, width=16, seed=0):
        super().__init__()
        self.first, self.last = nn.Linear(channels, width), nn.Linear(width, 4)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))

    def forward(self, features):
        raw = self.last(F.silu(self.first(features)))
        return torch.cat([F.softplus(raw[..., :1]), raw[..., 1:].sigmoid()], -1)


class Voxels(nn.Module):
    """A grid of features in [-1, 1]³, decoded point by point and rendered.

    `positioned` adds the place to the feature: then the shortcut does not hold.
    """

    def __init__(self, side=5, channels=4, samples=12, positioned=False, shortcut=True):
        super().__init__()
        self.side, self.channels, self.positioned, self.shortcut = side, channels, positioned, shortcut
        self.decoder = Decoder(channels)
        box = {"low": (-1, -1, -1), "high": (1, 1, 1)}
        settings = {"samples": samples, "proposal_samples": (), "box": box, "near": 0.0, "far": 10.0}
        self.renderer = VolumeRenderer(RendererConfig(**settings, background="white", view_dependent=False))

    def forward(self, signal, params):
        expected = (self.channels, self.side, self.side, self.side)
        if tuple(signal.shape[1:]) != expected:
            raise UserError(f"a grid of shape {tuple(signal.shape)}, expected (batch, {expected})")
        require_views(params, len(signal))

        def field(points, directions):
            features = sample(signal, points)
            return _samples(self.decoder(features + points[..., :1] if self.positioned else features))

        return self.renderer(field, params)

    def origin(self, batch_size, device):
        return torch.zeros(batch_size, self.channels, self.side, self.side, self.side, device=device)

    def origin_pullback(self, origin, params):
        """Every sample is alike: splat the gradient in its density and colour, and go through the decoder once."""
        if self.positioned or not self.shortcut:
            return None
        with torch.enable_grad():
            feature = origin.new_zeros(self.channels, requires_grad=True)
            value = self.decoder(feature)
            rows = [torch.autograd.grad(v, feature, create_graph=True, retain_graph=True)[0] for v in value]
            asked = []

            def field(points, directions):
                alike = value.expand(*points.shape[:2], 4).clone()
                asked.append((points, alike))
                return _samples(alike)

            values = self.renderer(field, params)
        ((points, alike),) = asked

        def pullback(weights):
            (found,) = torch.autograd.grad(values, alike, weights, create_graph=torch.is_grad_enabled())
            return torch.einsum("bkxyz,kc->bcxyz", splat(found, points, self.side), torch.stack(rows))

        return OriginView(values if torch.is_grad_enabled() else values.detach(), pullback)

    def example(self, batch_size, generator):
        grid = torch.randn(batch_size, self.channels, *(self.side,) * 3, generator=generator)
        _, params = self.renderer.example(batch_size, generator)
        return grid, params


def sample(grid, points):
    """Trilinear values `(B, N, C)` of grids `(B, C, R, R, R)` at points in [-1, 1]³; corners at -1 and 1."""
    values = 0
    for index, weight in _corners(points, grid.shape[-1]):
        taken = grid.flatten(2).gather(2, index[:, None].expand(-1, grid.shape[1], -1))
        values = values + weight[..., None] * taken.transpose(1, 2)
    return values


def splat(values, points, side):
    """The adjoint of `sample` in the grid: `(B, N, K)` to `(B, K, R, R, R)`."""
    grid = values.new_zeros(len(values), values.shape[2], side**3)
    for index, weight in _corners(points, side):
        add = (weight[..., None] * values).transpose(1, 2)
        grid = grid.scatter_add(2, index[:, None].expand(-1, values.shape[2], -1), add)
    return grid.unflatten(2, (side,) * 3)


def _corners(points, side):
    place = ((points.detach().clamp(-1, 1) + 1) / 2 * (side - 1)).clamp(max=side - 1 - 1e-6)
    low = place.floor()
    part = place - low
    for corner in range(8):
        bits = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=points.device)
        x, y, z = (low.long() + bits).unbind(-1)
        weight = torch.where(bits.bool(), part, 1 - part).prod(-1)
        yield (x * side + y) * side + z, weight


def _samples(values):
    return FieldSamples(values[..., 0], values[..., 1:])
