"""Leaving out what does not count: the same picture, of fewer points."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import whole_image
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import FieldSamples, SphereField
from goembed_nerf_renderer.occupancy import evaluate_where, occupancy_grid
from goembed_nerf_renderer.renderer import VolumeRenderer

LOW, HIGH = -torch.ones(2, 3), torch.ones(2, 3)


@pytest.fixture
def balls():
    """Two fields: two balls, and one in a corner, whose density falls off within 0.1."""
    centre = torch.tensor([[[0.3, 0.2, -0.1], [-0.5, 0.1, 0.4]], [[0.6, 0.5, -0.6], [0.6, 0.5, -0.6]]])
    radius = torch.tensor([[0.3, 0.2], [0.25, 0.1]])
    colour = torch.tensor([[[1.0, 0.2, 0.1], [0.1, 0.9, 0.3]]]).expand(2, 2, 3)
    return SphereField(centre, radius, torch.full((2, 2), 25.0), colour, torch.full((2, 2), 0.1))


@pytest.fixture
def params(new_cameras):
    return whole_image(new_cameras(dtype=torch.float32), 12, 16)


def test_cells_hold_what_is_in_them(balls):
    grid = occupancy_grid(balls, LOW, HIGH, 16, 1e-3)
    points = 2.4 * torch.rand(2, 20000, 3, generator=torch.Generator().manual_seed(0)) - 1.2
    density, known = balls(points).density, grid.contains(points)
    assert known[density > 0].all()
    outside = (points.abs() > 1).any(-1)
    assert known[outside].all()  # nothing is known of it
    assert 0.01 < known[~outside].float().mean() < 0.25
    again = occupancy_grid(balls, LOW, HIGH, 16, 1e-3, chunk_points=100)
    assert torch.equal(again.occupied, grid.occupied)


def test_axes_are_in_order():
    """A thing that is long in x, less so in y, thin in z, in a box of unlike sides."""

    def slab(points, directions):
        inside = (points.abs() < points.new_tensor([1.6, 0.5, 0.1])).all(-1)
        return FieldSamples(inside.float(), points)

    high = torch.tensor([[2.0, 1.0, 4.0]])
    extent = occupancy_grid(slab, -high, high, 32, 0.5).occupied[0].nonzero()
    sides = (extent.amax(0) - extent.amin(0) + 1) * 2 * high[0] / 32
    torch.testing.assert_close(sides, torch.tensor([3.2, 1.0, 0.2]), atol=0.8, rtol=0)
    assert sides[0] > sides[1] > sides[2]


def test_wanted_points_alone_are_evaluated(counting):
    def field(points, directions):
        return FieldSamples(points.sum(-1), points * directions, points[..., :2])

    generator = torch.Generator().manual_seed(0)
    points, directions = torch.rand(2, 3, 50, 3, generator=generator)
    wanted = torch.rand(3, 50, generator=generator) < torch.tensor([[0.1], [0.5], [0.0]])
    counted = counting(field)
    found, whole = evaluate_where(counted, points, directions, wanted), field(points, directions)
    assert counted.asked == 3 * wanted.sum(1).max()
    for ours, theirs in zip(found, whole, strict=True):
        shape = wanted.reshape(3, 50, *(1,) * (theirs.dim() - 2))
        assert torch.equal(ours, theirs * shape)
    nothing = evaluate_where(field, points, None if directions is None else directions, torch.zeros(3, 50).bool())
    assert not nothing.density.any()


@torch.no_grad()
@pytest.mark.parametrize("proposals", [(), (32,)])
def test_an_occupancy_grid_changes_nothing(balls, params, counting, proposals):
    model = VolumeRenderer(RendererConfig(samples=48, proposal_samples=proposals))
    grid = occupancy_grid(balls, LOW, HIGH, 16, 1e-3)
    box = {"low": (-1.0, -1.0, -1.0), "high": (1.0, 1.0, 1.0)}
    model = VolumeRenderer(RendererConfig(samples=48, proposal_samples=proposals, box=box))
    dense, sparse = counting(balls), counting(balls)
    expected = model.render(dense, params)
    found = model.render(sparse, params, occupancy=grid)
    for name in ("colour", "depth", "opacity", "weights"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-5, rtol=0)
    assert sparse.asked < 0.5 * dense.asked


@torch.no_grad()
@pytest.mark.parametrize("limit", [0.5, 1e-2, 1e-4])
def test_rays_end_where_nothing_comes_through(params, counting, limit):
    """What is left out is at most what would still come through."""
    wall = SphereField(*(torch.tensor(leaf)[None].expand(2, *[-1] * n) for leaf, n in (
        ([[0.0, 0, 0]], 2), ([1.5], 1), ([8.0], 1), ([[0.9, 0.5, 0.2]], 2), ([0.3], 1),
    )))  # fmt: skip
    settings = {"samples": 128, "proposal_samples": (), "background": "white"}
    dense, sparse = counting(wall), counting(wall)
    expected = VolumeRenderer(RendererConfig(**settings))(dense, params)
    model = VolumeRenderer(RendererConfig(**settings, min_transmittance=limit))
    found = model(sparse, params)
    assert (found - expected).abs().max() <= limit
    assert (found - expected).abs().max() > 0
    assert sparse.asked < 0.7 * dense.asked
    with torch.enable_grad():
        density = wall.density.clone().requires_grad_()
        assert torch.equal(model(wall._replace(density=density), params), expected)  # with a gradient, all of it


def test_none_of_it_has_a_gradient(balls, params):
    grid = occupancy_grid(balls, LOW, HIGH, 8, 1e-3)
    with pytest.raises(UserError, match=r"an occupancy grid for 2 fields with gradient: render with torch\.no_grad"):
        VolumeRenderer(RendererConfig()).render(balls, params, occupancy=grid)
