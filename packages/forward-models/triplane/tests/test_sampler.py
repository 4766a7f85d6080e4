"""The sampler and its adjoint: against loops, against grid_sample, and against finite differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from goembed_core.errors import UserError
from goembed_triplane import sampler
from goembed_triplane.sampler import Cells, lookup, sample, scatter, splat
from torch.nn import functional as F

SHAPES = [(5,), (4, 6), (3, 4, 5), (1, 3), (2, 1, 1)]


def draw(shape, batch=2, channels=3, number=7, seed=0, dtype=torch.float64, reach=1.0):
    """A grid, points in and around it, and values at them."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(batch, channels, *shape, generator=generator, dtype=dtype)
    points = reach * (2 * torch.rand(batch, number, len(shape), generator=generator, dtype=dtype) - 1)
    return grid, points, torch.randn(batch, number, channels, generator=generator, dtype=dtype)


def loop(grid, points):
    """One number after the other, one axis after the other."""
    batch, channels, *shape = grid.shape
    found = torch.zeros(batch, points.shape[1], channels, dtype=grid.dtype)
    for b, n in itertools.product(range(batch), range(points.shape[1])):
        for corner in itertools.product((0, 1), repeat=len(shape)):
            index, weight = [], 1.0
            for dim, side in enumerate(shape):
                coordinate = min(1.0, max(-1.0, points[b, n, len(shape) - 1 - dim].item()))
                place = (coordinate + 1) / 2 * (side - 1)
                low = min(math.floor(place), max(side - 2, 0))
                weight *= place - low if corner[dim] else 1 - (place - low)
                index.append(min(low + corner[dim], side - 1))
            found[b, n] += weight * grid[(b, slice(None), *index)]
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_is_what_loops_say(shape):
    grid, points, _ = draw(shape, reach=1.3)
    assert torch.allclose(sample(grid, points), loop(grid, points), atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 5)])
def test_a_sample_and_its_gradients_are_those_of_grid_sample(shape):
    grid, points, values = draw(shape, number=50, reach=1.3)
    grid.requires_grad_(), points.requires_grad_()

    def theirs(grid, points):
        places = points[:, :, None] if len(shape) == 2 else points[:, :, None, None]
        return F.grid_sample(grid, places, padding_mode="border", align_corners=True).flatten(2).mT

    assert torch.allclose(sample(grid, points), theirs(grid, points), atol=1e-12)
    found, expected = (torch.autograd.grad(f(grid, points), (grid, points), values) for f in (sample, theirs))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_minus_one_and_one_are_the_centres_of_the_outer_cells_and_x_runs_along_the_last_dimension():
    grid = torch.arange(6.0).view(1, 1, 2, 3)
    points = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0], [9.0, -9.0]]])
    assert sample(grid, points)[0, :, 0].tolist() == [0.0, 2.0, 3.0, 5.0, 2.5, 2.0]


def test_outside_there_is_no_gradient_in_the_points():
    grid, points, _ = draw((4, 4), batch=1)
    points = (points + 5).requires_grad_()
    (slope,) = torch.autograd.grad(sample(grid, points).sum(), points)
    assert not slope.any()


@pytest.mark.parametrize("number", [3, 40])  # fewer and more places than rows: two ways to add up
@pytest.mark.parametrize("shape", SHAPES)
def test_splat_is_the_adjoint(shape, number):
    grid, points, values = draw(shape, number=number, reach=1.2)
    splatted = splat(values, points, shape)
    assert splatted.shape == grid.shape
    assert torch.allclose((sample(grid, points) * values).sum(), (grid * splatted).sum(), atol=1e-10)
    (expected,) = torch.autograd.grad(loop(grid.requires_grad_(), points), grid, values)
    assert torch.allclose(splatted, expected, atol=1e-12)


def test_chunks_are_only_chunks(monkeypatch):
    _, points, values = draw((4, 4), number=30)
    whole = splat(values, points, (4, 4))
    monkeypatch.setitem(sampler.CHUNK, "cpu", 7)
    assert torch.allclose(splat(values, points, (4, 4)), whole, atol=1e-12)
    assert torch.allclose(splat(values[:, :3], points[:, :3], (4, 4)), splat(values[:, :3], points[:, :3], (4, 4)))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (3, 2, 3)])
@pytest.mark.parametrize("number", [2, 30])
def test_first_and_second_derivatives_are_those_of_finite_differences(shape, number):
    grid, points, values = draw(shape, number=number, batch=2, channels=2)
    inputs = (grid.requires_grad_(), points.requires_grad_())
    assert torch.autograd.gradcheck(sample, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(sample, inputs, fast_mode=True)
    inputs = (values.requires_grad_(), points)
    assert torch.autograd.gradcheck(lambda v, p: splat(v, p, shape), inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda v, p: splat(v, p, shape), inputs, fast_mode=True)


def test_full_second_derivatives_of_two_tables_at_once():
    """Every entry, with places that share corners, several grids, and weights that are any numbers."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(9, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    values = torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    first = torch.randint(0, 5, (4, 2), generator=generator)

    def both(table, weights, values):
        cells = Cells(first, weights, (0, 1, 3, 4))
        return lookup(table, cells), scatter(values, cells, 9)

    index = first[..., None] + torch.tensor([0, 1, 3, 4])
    expected = (table[index] * weights[..., None]).sum((1, 2))
    assert torch.allclose(both(table, weights, values)[0], expected)
    assert torch.autograd.gradcheck(both, (table, weights, values))
    assert torch.autograd.gradgradcheck(both, (table, weights, values))


def test_a_signal_does_not_see_the_points_of_another():
    grid, points, values = draw((4, 5), batch=3)
    assert torch.allclose(sample(grid[1:2], points[1:2]), sample(grid, points)[1:2], atol=0)
    assert torch.allclose(splat(values[1:2], points[1:2], (4, 5)), splat(values, points, (4, 5))[1:2], atol=1e-12)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_precision(dtype, error):
    grid, points, values = (x.to(dtype) for x in draw((6, 7), number=200))
    exact = sample(grid.double(), points.double())
    found = sample(grid, points.double())
    assert found.dtype == dtype and (found.double() - exact).abs().max() < error * exact.abs().max()
    exact, found = splat(values.double(), points.double(), (6, 7)), splat(values, points.double(), (6, 7))
    assert found.dtype == dtype and (found.double() - exact).abs().max() < error * exact.abs().max()


def test_no_points_and_no_grids():
    grid, points, values = draw((4, 5))
    assert sample(grid, points[:, :0]).shape == (2, 0, 3)
    assert sample(grid[:0], points[:0]).shape == (0, 7, 3)
    empty = splat(values[:, :0], points[:, :0], (4, 5))
    assert empty.shape == (2, 3, 4, 5) and not empty.any()


def test_what_does_not_fit_is_refused():
    grid, points, values = draw((4, 5))
    with pytest.raises(UserError, match=r"points of shape \(2, 7, 2\) for a grid of shape \(2, 3, 4, 5, 1\)"):
        sample(grid[..., None], points)
    with pytest.raises(UserError, match=r"points of shape \(1, 7, 2\) .* expected \(2, n, 2\)"):
        sample(grid, points[:1])
    with pytest.raises(UserError, match="values of 7 points with 6 points: give one value for each"):
        splat(values, points[:, :6], (4, 5))


def test_a_place_that_is_no_number_gives_none():
    grid, points, _ = draw((4, 5))
    points[0, 0, 0] = math.nan
    found = sample(grid, points)
    assert found[0, 0].isnan().all() and found[0, 1:].isfinite().all() and found[1].isfinite().all()
