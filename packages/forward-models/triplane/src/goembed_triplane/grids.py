"""Representations on grids: what a signal `ζ` is, and its feature at a place.

A place is `(x, y, z)` in [−1, 1] of a box.  Every grid's feature at its origin is zero, so that one decoder looks the
same at the origin of any of them, and the derivative there is linear: its adjoint is the method `splat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from goembed_core.errors import UserError
from goembed_core.precision import at_least_float32, without_autocast
from goembed_core.trees import named_leaves
from jaxtyping import Float
from torch import Tensor, nn

from goembed_triplane import sampler
from goembed_triplane.config import FactoredConfig, TriplaneConfig, VoxelsConfig
from goembed_triplane.sampler import Axis, Cells, axis, surround

PAIRS = ((0, 1), (0, 2), (1, 2))  # the planes xy, xz, yz: the first coordinate along their last dimension
ACROSS = (2, 1, 0)  # and the axis that each lacks


class Representation(Protocol):
    """A space of signals, each of which has a feature at every place; an `nn.Module`."""

    channels: int  # of the feature

    def origin(self, batch_size: int, device: torch.device) -> Tensor | tuple:
        """The origin `ζ0`, `batch_size` times."""
        ...

    def features(self, signal: Tensor | tuple, places: Float[Tensor, "batch n 3"]) -> Float[Tensor, "batch n c"]:
        """The feature of each signal at its own places; any number of times differentiable in both."""
        ...


class LinearRepresentation(Representation, Protocol):
    """One whose feature is zero at the origin, with a derivative there whose adjoint is known."""

    def splat(self, values: Float[Tensor, "batch n c"], places: Float[Tensor, "batch n 3"]) -> Tensor | tuple:
        """`Σ_n ∂⟨features(ζ0, place_n), values_n⟩ / ∂ζ0`: what features pull on the origin; of the signal's form."""
        ...


class Triplane(nn.Module):
    """`f(x) = Σ_p plane_p(x_p)`, or the three beside each other; `ζ` is `(B, 3, C, R, R)`, planes xy, xz, yz."""

    def __init__(self, config: TriplaneConfig):
        super().__init__()
        self.config = config
        self.channels = config.channels * (3 if config.combine == "concat" else 1)
        self.shape = (3, config.channels, config.resolution, config.resolution)

    def origin(self, batch_size: int, device: torch.device) -> Float[Tensor, "batch 3 c r r"]:
        """Zeros."""
        return torch.zeros(batch_size, *self.shape, device=device)

    def features(
        self, signal: Float[Tensor, "batch 3 c r r"], places: Float[Tensor, "batch n 3"]
    ) -> Float[Tensor, "batch n f"]:
        """The planes' features; differentiable in both."""
        require_signal(signal, (self.shape,), len(places))
        with without_autocast(signal.device):
            table = _rows(signal, 2)
            cells = self._cells(places.to(table))
            return sampler.lookup(table, cells).view(*places.shape[:2], self.channels)

    def splat(
        self, values: Float[Tensor, "batch n f"], places: Float[Tensor, "batch n 3"]
    ) -> Float[Tensor, "batch 3 c r r"]:
        """The adjoint of `features` in the signal."""
        with without_autocast(values.device):
            values = at_least_float32(values)
            cells = self._cells(places.to(values))
            count = len(values) * 3 * self.config.resolution**2
            table = sampler.scatter(values.reshape(-1, self.config.channels), cells, count)
        return _grid(table, (len(values), *self.shape), 2)

    def _cells(self, places: Float[Tensor, "batch n 3"]) -> Cells:
        """All planes of a point at once for their sum; else one by one."""
        cells = plane_cells(places, self.config.resolution)
        return cells if self.config.combine == "sum" else _apart(cells)


class Voxels(nn.Module):
    """`f(x)` is the trilinear interpolation of a grid; `ζ` is `(B, C, R, R, R)`, x along its last dimension."""

    def __init__(self, config: VoxelsConfig):
        super().__init__()
        self.config = config
        self.channels = config.channels
        self.shape = (config.channels, *(config.resolution,) * 3)

    def origin(self, batch_size: int, device: torch.device) -> Float[Tensor, "batch c r r r"]:
        """Zeros."""
        return torch.zeros(batch_size, *self.shape, device=device)

    def features(
        self, signal: Float[Tensor, "batch c r r r"], places: Float[Tensor, "batch n 3"]
    ) -> Float[Tensor, "batch n c"]:
        """The grid's features; differentiable in both."""
        require_signal(signal, (self.shape,), len(places))
        return sampler.sample(at_least_float32(signal), places)

    def splat(
        self, values: Float[Tensor, "batch n c"], places: Float[Tensor, "batch n 3"]
    ) -> Float[Tensor, "batch c r r r"]:
        """The adjoint of `features` in the signal."""
        return sampler.splat(at_least_float32(values), places, self.shape[1:])


class Factors(NamedTuple):
    """Planes and lines; `ζ` of `Factored`."""

    planes: Float[Tensor, "batch 3 c r r"]  # xy, xz, yz
    lines: Float[Tensor, "batch 3 c r"]  # z, y, x


class Factored(nn.Module):
    """`f(x) = [plane_p(x_p) ∘ line_p(x_⊥p) − 1]_p` (TensoRF's vector-matrix factors), or `[plane_p + line_p]_p`.

    The origin of the product is one, as at zero each factor's gradient is the other factor, zero.
    """

    def __init__(self, config: FactoredConfig):
        super().__init__()
        self.config = config
        self.channels = 3 * config.channels
        self.shapes = Factors((3, config.channels, *(config.resolution,) * 2), (3, config.channels, config.resolution))
        self.level = 1.0 if config.combine == "product" else 0.0  # of all factors at the origin

    def origin(self, batch_size: int, device: torch.device) -> Factors:
        """Ones of a product, zeros of a sum."""
        return Factors(*(torch.full((batch_size, *shape), self.level, device=device) for shape in self.shapes))

    def features(self, signal: Factors, places: Float[Tensor, "batch n 3"]) -> Float[Tensor, "batch n f"]:
        """The factors' features, xy and z, xz and y, yz and x; differentiable in all."""
        require_signal(signal, self.shapes, len(places))
        with without_autocast(places.device):
            planes, lines = _rows(signal.planes, 2), _rows(signal.lines, 2)
            on_planes, on_lines = self._cells(places.to(planes))
            plane, line = sampler.lookup(planes, on_planes), sampler.lookup(lines, on_lines)
            found = plane * line - 1 if self.config.combine == "product" else plane + line
            return found.view(*places.shape[:2], self.channels)

    def splat(self, values: Float[Tensor, "batch n f"], places: Float[Tensor, "batch n 3"]) -> Factors:
        """The adjoint of the derivative at the origin, where each factor of the product multiplies by one."""
        with without_autocast(values.device):
            values = at_least_float32(values)
            rows, batch, side = values.reshape(-1, self.config.channels), len(values), self.config.resolution
            on_planes, on_lines = self._cells(places.to(values))
            planes = sampler.scatter(rows, on_planes, batch * 3 * side**2)
            lines = sampler.scatter(rows, on_lines, batch * 3 * side)
        shapes = ((batch, *shape) for shape in self.shapes)
        return Factors(*(_grid(table, shape, 2) for table, shape in zip((planes, lines), shapes, strict=True)))

    def _cells(self, places: Float[Tensor, "batch n 3"]) -> tuple[Cells, Cells]:
        side = self.config.resolution
        return _apart(plane_cells(places, side)), _apart(line_cells(places, side))


def plane_cells(places: Float[Tensor, "batch n 3"], side: int) -> Cells:
    """Where places lie in a table of the three planes of each item."""
    axes = [axis(places[..., k], side) for k in range(3)]
    return _stacked([surround([axes[a], axes[b]], (side, side)) for a, b in PAIRS], side**2)


def line_cells(places: Float[Tensor, "batch n 3"], side: int) -> Cells:
    """Where places lie in a table of the lines across the three planes of each item."""
    axes: list[Axis] = [axis(places[..., k], side) for k in range(3)]
    return _stacked([surround([axes[a]], (side,)) for a in ACROSS], side)


def require_signal(signal: Tensor | tuple, shapes: Sequence[tuple[int, ...]], batch: int) -> None:
    """Raise UserError unless the leaves are `(batch, *shape)`, one after the other."""
    leaves = named_leaves(signal, "signal")
    given = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
    if list(given.values()) != [(batch, *shape) for shape in shapes]:
        told = ", ".join(f"{name} {shape}" for name, shape in given.items())
        wanted = ", ".join(str((batch, *shape)) for shape in shapes)
        raise UserError(f"a signal of {told}: expected {wanted}, for points of {batch} signals")


def _stacked(parts: list[Cells], rows: int) -> Cells:
    """Some grids of each item as one table: leaves `(B * n, grids, ...)`."""
    grids = torch.arange(len(parts), device=parts[0].first.device) * rows
    first = torch.stack([part.first for part in parts], -1) + grids
    item = torch.arange(len(first), device=first.device)[:, None, None] * (len(parts) * rows)
    weights = torch.stack([part.weights for part in parts], -2)
    return Cells((first + item).flatten(0, 1), weights.flatten(0, 1), parts[0].steps)


def _apart(cells: Cells) -> Cells:
    """Each grid by itself, `(n * grids, 1, ...)`, so that what is found is not added up."""
    return Cells(cells.first.reshape(-1, 1), cells.weights.flatten(0, 1)[:, None], cells.steps)


def _rows(leaf: Tensor, dim: int) -> Float[Tensor, "rows c"]:
    """A grid as a table, given which dimension has the channels."""
    return at_least_float32(leaf).movedim(dim, -1).reshape(-1, leaf.shape[dim])


def _grid(table: Float[Tensor, "rows c"], shape: tuple[int, ...], dim: int) -> Tensor:
    """The reverse of `_rows`."""
    rest = (*shape[:dim], *shape[dim + 1 :])
    return table.view(*rest, shape[dim]).movedim(-1, dim)
