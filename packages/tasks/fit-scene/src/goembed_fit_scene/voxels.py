"""A dense grid of densities and colours: one gather of eight corners a point, and nothing where it is empty."""

from __future__ import annotations

import math

import torch
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.fields import FieldSamples
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from goembed_fit_scene.config import VoxelFieldConfig
from goembed_fit_scene.harmonics import harmonics

CELLS = 8  # corners at which each item of a batch looks at the total variation


class VoxelField(nn.Module):
    """`σ = softplus(s(x)) / cell`, `c = sigmoid(Σ_k c_k(x) Y_k(d))`, with `s` and `c_k` trilinear in a grid of corners.

    The density is that of the interpolated number, not the interpolation of densities: surfaces may be sharper than
    cells (DVGO, §4.1).  One scene, for points of any batch.  Differentiable once.
    """

    def __init__(self, config: VoxelFieldConfig):
        super().__init__()
        self.config = config
        self.box = FieldBox(config, config.cells)
        self.corners = tuple(n + 1 for n in self.box.cells)
        self.colours = 3 * (config.harmonics + 1) ** 2
        width = -(-(1 + self.colours) // 4) * 4  # rows of whole vectors are added up in a third of the time
        self.shift = math.log(math.expm1(config.initial_depth))
        self.grid = nn.Parameter(torch.zeros(math.prod(self.corners), width))  # s, c_k, and what makes a row whole

    def forward(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """Evaluate; nothing outside of the box and in empty cells.  Differentiable in the grid and the points."""
        with without_autocast(points.device):
            flat = points.reshape(-1, 3).to(self.grid)
            inside = self.box.contains(flat).nonzero()[:, 0]
            met = flat[inside]
            index, weights = trilinear(self.box.unit(met), self.corners)
            colour = None
            if directions is None:
                raw = (self.grid[:, 0][index] * weights).sum(1)
            else:
                found = GridLookup.apply(self.grid, index, weights)
                raw = found[:, 0]
                basis = harmonics(directions.reshape(-1, 3)[inside].to(found), self.config.harmonics)
                mixed = found[:, 1 : 1 + self.colours].unflatten(1, (3, -1)) * basis[:, None]
                colour = torch.zeros_like(flat).index_copy(0, inside, torch.sigmoid(mixed.sum(2))).view(points.shape)
            density = F.softplus(raw + self.shift) / self.box.cell_length(met)
            return FieldSamples(flat.new_zeros(len(flat)).index_copy(0, inside, density).view(points.shape[:2]), colour)

    @torch.no_grad()
    def proposal(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """The density alone, without gradient: where the renderer is to look."""
        return self(points, None)

    @torch.no_grad()
    def find_empty(self, random: ItemRandom) -> None:
        """Look which cells are empty; what is trilinear is largest at a corner, so that none is missed."""
        depth = F.softplus(self.grid[:, 0] + self.shift).reshape(1, *self.corners)
        self.box.occupied.copy_(F.max_pool3d(depth, 2, stride=1)[0] > self.config.min_depth)

    def variation(self, random: ItemRandom) -> Float[Tensor, ""]:
        """Total variation at corners that each item draws: the root of the squared steps along the three axes."""
        steps = torch.tensor([self.corners[1] * self.corners[2], self.corners[2], 1], device=self.grid.device)
        last = torch.tensor(self.box.cells, device=self.grid.device)
        place = (random.rand(CELLS, 3).reshape(-1, 3).to(self.grid) * last).long()
        first = (place * steps).sum(1)
        values = F.embedding(torch.cat([first[:, None], first[:, None] + steps], 1), self.grid)
        squares = (values[:, 1:] - values[:, :1])[..., : 1 + self.colours].square().sum(1)
        return (squares + 1e-6).sqrt().mean()


class GridLookup(torch.autograd.Function):
    """`Σ_k weights_k grid[index_k]`: forward without holding the corners, backward by adding up whole rows."""

    @staticmethod
    def forward(ctx, grid: Tensor, index: Tensor, weights: Tensor) -> Float[Tensor, "n c"]:
        ctx.save_for_backward(grid, index, weights)
        return F.embedding_bag(index, grid, per_sample_weights=weights, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Float[Tensor, "n c"]) -> tuple[Tensor | None, None, Tensor | None]:
        grid, index, weights = ctx.saved_tensors
        to_grid = to_weights = None
        if ctx.needs_input_grad[0]:
            rows = (weights[..., None] * slope[:, None]).flatten(0, 1)
            to_grid = torch.zeros_like(grid).index_add_(0, index.flatten(), rows)
        if ctx.needs_input_grad[2]:
            to_weights = (grid[index] @ slope[..., None])[..., 0]
        return to_grid, None, to_weights


def trilinear(
    unit: Float[Tensor, "n 3"], corners: tuple[int, int, int]
) -> tuple[Int[Tensor, "n 8"], Float[Tensor, "n 8"]]:
    """The eight corners around places in [0, 1]³ of a grid, as rows of a table, and their weights."""
    last = torch.tensor([n - 1 for n in corners], device=unit.device)
    place = unit * last
    low = place.detach().long().clamp_(min=0).minimum(last - 1)
    x, y, z = (place - low).unbind(1)
    first = (low[:, 0] * corners[1] + low[:, 1]) * corners[2] + low[:, 2]
    steps = [(i * corners[1] + j) * corners[2] + k for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    across = torch.stack([(1 - x) * (1 - y), (1 - x) * y, x * (1 - y), x * y], 1)
    weights = torch.stack([across * (1 - z)[:, None], across * z[:, None]], 2).flatten(1)
    return first[:, None] + torch.tensor(steps, device=unit.device), weights
