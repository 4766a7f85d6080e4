"""The voxel grid, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_fit_scene.config import VoxelFieldConfig
from goembed_fit_scene.harmonics import harmonics
from goembed_fit_scene.voxels import GridLookup, VoxelField, trilinear
from goembed_nerf_renderer.config import SceneBox

BOX = SceneBox(low=(-1.0, -2.0, -0.5), high=(1.0, 2.0, 0.5))


def random_field(seed=0, cells=8, harmonics=2):
    field = VoxelField(VoxelFieldConfig(box=BOX, cells=cells, harmonics=harmonics))
    generator = torch.Generator().manual_seed(seed)
    field.grid.data = 3 * torch.randn(field.grid.shape, generator=generator)
    return field


def inside(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    points = low + (high - low) * torch.rand(count, 3, generator=generator)
    return points, torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)


def loop(field, point):
    """The grid's row at a point: one axis after the other."""
    grid = field.grid.detach().reshape(*field.corners, -1)
    place = [(point[a].item() - BOX.low[a]) / (BOX.high[a] - BOX.low[a]) * (field.corners[a] - 1) for a in range(3)]
    low = [min(int(p), field.corners[a] - 2) for a, p in enumerate(place)]
    for p, i in zip(place, low, strict=True):
        grid = (i + 1 - p) * grid[i] + (p - i) * grid[i + 1]
    return grid


def test_a_field_is_what_a_loop_over_axes_says():
    field = random_field()
    assert field.corners == (5, 9, 3)  # cubes of a half
    points, directions = inside(50)
    found = field(points[None], directions[None])
    basis = harmonics(directions, 2)
    for n, point in enumerate(points):
        row = loop(field, point)
        density = math.log1p(math.exp(row[0].item() + field.shift)) / 0.5
        colour = torch.sigmoid((row[1:28].reshape(3, 9) * basis[n]).sum(1))
        assert found.density[0, n].item() == pytest.approx(density, rel=1e-3, abs=1e-6)
        assert torch.allclose(found.colour[0, n], colour, atol=1e-4)
    assert torch.allclose(field(points[None], None).density, found.density, rtol=1e-4, atol=1e-6)


def test_corners_of_the_box_are_corners_of_the_grid():
    index, weights = trilinear(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.5]]), (5, 9, 3))
    assert index.min() >= 0 and index.max() <= 5 * 9 * 3 - 1
    picked = [index[n, weights[n].argmax()].item() for n in range(3)]
    assert picked == [0, 5 * 9 * 3 - 1, 4 * 27 + 1] and torch.allclose(weights.amax(1), torch.ones(3))


def test_the_lookup_has_the_gradient_of_what_it_computes():
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(20, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    index = torch.randint(0, 20, (6, 8), generator=generator)  # corners come more than once
    weights = torch.rand(6, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g, w: GridLookup.apply(g, index, w), (grid, weights))
    plain = (grid[index] * weights[..., None]).sum(1)
    assert torch.allclose(GridLookup.apply(grid, index, weights), plain)


def test_a_field_is_differentiable_in_grid_and_points():
    field = random_field(cells=4, harmonics=1).double()
    points, directions = (x.double()[None] for x in inside(6, seed=3))
    points.requires_grad_()

    def seen(grid, points):
        return torch.func.functional_call(field, {"grid": grid}, (points, directions))[:2]

    assert torch.autograd.gradcheck(seen, (field.grid.detach().requires_grad_(), points))


def test_empty_cells_are_left_out_and_nothing_else():
    field = random_field(cells=12)
    field.grid.data[:, 0] -= 4
    points, directions = inside(5000)
    whole = field(points[None], directions[None])
    field.find_empty(ItemRandom(0, [0]))
    assert 0.05 < field.box.occupied.float().mean() < 0.95
    pruned = field(points[None], directions[None])
    kept = field.box.contains(points)
    assert torch.allclose(pruned.density[0, kept], whole.density[0, kept], rtol=1e-5)
    assert torch.allclose(pruned.colour[0, kept], whole.colour[0, kept], rtol=1e-5)
    assert (pruned.density[0, ~kept] == 0).all()
    assert (whole.density[0, ~kept] * field.box.cell_length(points) <= field.config.min_depth + 1e-6).all()


def test_nothing_is_outside_of_the_box():
    outside = torch.tensor([[[1.01, 0.0, 0.0], [0.0, -2.01, 0.0], [0.0, 0.0, 5.0], [0.9, 1.9, 0.4]]])
    density = random_field()(outside, None).density[0]
    assert (density[:3] == 0).all() and density[3] > 0


def test_total_variation_is_that_of_a_loop_and_least_for_one_colour():
    field = random_field(cells=3)
    grid = field.grid.detach().reshape(*field.corners, -1)[..., :28]
    places = (ItemRandom(0, range(40)).rand(8, 3).reshape(-1, 3) * torch.tensor(field.box.cells)).long()
    total = 0.0
    for i, j, k in places.tolist():
        steps = [
            grid[i + 1, j, k] - grid[i, j, k],
            grid[i, j + 1, k] - grid[i, j, k],
            grid[i, j, k + 1] - grid[i, j, k],
        ]
        total += (sum(s.square() for s in steps) + 1e-6).sqrt().mean().item()
    assert field.variation(ItemRandom(0, range(40))).item() == pytest.approx(total / len(places), rel=1e-4)
    field.grid.data[:] = 1.7
    assert field.variation(ItemRandom(0, range(40))).item() == pytest.approx(1e-3, rel=1e-3)


def test_harmonics_are_orthogonal_on_the_sphere():
    z, azimuth = torch.linspace(-1, 1, 401)[1::2], torch.arange(64) * 2 * math.pi / 64
    z, azimuth = torch.meshgrid(z, azimuth, indexing="ij")
    ring = (1 - z * z).sqrt()
    values = harmonics(torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], -1).reshape(-1, 3), 2)
    assert torch.allclose(values.mT @ values / len(values), torch.eye(9), atol=1e-3)


def test_a_field_needs_a_box():
    with pytest.raises(UserError, match="a field without a box: give box="):
        VoxelField(VoxelFieldConfig())
