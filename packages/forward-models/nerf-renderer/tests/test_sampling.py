"""Where samples lie."""

import numpy as np
import pytest
import torch
from goembed_nerf_renderer.sampling import Segment, box_segment, even_edges, places, proposed_edges, to_distance


def make_weights(rays=7, samples=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(rays, samples, generator=generator, dtype=torch.float64) ** 4
    edges = torch.rand(rays, samples + 1, generator=generator, dtype=torch.float64).cumsum(-1)
    edges = (edges - edges[:, :1]) / (edges[:, -1:] - edges[:, :1])
    return edges, weights


@pytest.mark.parametrize("count,sharpness", [(1, 1.0), (5, 1.0), (40, 0.5), (7, 0.3)])
def test_edges_hold_equal_shares_of_the_weights(oracle, count, sharpness):
    edges, weights = make_weights()
    found = proposed_edges(edges, weights, count, 0.01, sharpness)
    assert found.shape == (7, count + 1)
    for ray in range(7):
        expected = oracle.resample(edges[ray].numpy(), weights[ray].numpy(), count, 0.01, sharpness)
        np.testing.assert_allclose(found[ray].numpy(), expected, atol=1e-12)
    assert (found.diff(dim=-1) > 0).all()
    assert (found[:, 0] == 0).all() and (found[:, -1] == 1).all()


def test_edges_crowd_where_the_weight_is():
    weights = torch.zeros(1, 10)
    weights[0, 4] = 1.0
    found = proposed_edges(even_edges(torch.zeros(1), 10), weights, 100, 0.01)[0]
    near = ((found > 0.3) & (found < 0.6)).float().mean()
    assert near > 0.95


@pytest.mark.parametrize("weight", [0.0, 1e-12, 1e30])
def test_weights_that_say_nothing(weight):
    edges = even_edges(torch.zeros(2), 8)
    torch.testing.assert_close(proposed_edges(edges, torch.full((2, 8), weight), 16, 0.01), even_edges(edges[:, 0], 16))


def test_proposals_have_no_gradient():
    edges, weights = make_weights()
    assert not proposed_edges(edges, weights.requires_grad_(), 4, 0.01).requires_grad


def test_in_float32_edges_do_not_cross():
    edges, weights = make_weights(200, 64, seed=1)
    found = proposed_edges(edges.float(), (weights**20).float(), 256, 0.001)
    assert (found.diff(dim=-1) >= 0).all() and found.isfinite().all()


def test_places_lie_within_their_intervals():
    edges, _ = make_weights()
    middle = places(edges, None)
    torch.testing.assert_close(middle, 0.5 * (edges[:, 1:] + edges[:, :-1]))
    offsets = torch.rand(7, 12, generator=torch.Generator().manual_seed(1))
    anywhere = places(edges, offsets)
    assert (anywhere >= edges[:, :-1]).all() and (anywhere <= edges[:, 1:]).all()
    torch.testing.assert_close((anywhere - edges[:, :-1]) / edges.diff(dim=-1), offsets.double())


def test_spacing():
    segment = Segment(torch.tensor([0.5, 1.0]), torch.tensor([4.0, 10.0]))
    s = torch.linspace(0, 1, 5).expand(2, 5)
    linear, disparity = (to_distance(s, segment, spacing) for spacing in ("linear", "disparity"))
    for found in (linear, disparity):
        torch.testing.assert_close(found[:, 0], segment.near)
        torch.testing.assert_close(found[:, -1], segment.far)
    torch.testing.assert_close(linear.diff(dim=-1), (segment.far - segment.near)[:, None].expand(2, 4) / 4)
    steps = (1 / disparity).diff(dim=-1)
    torch.testing.assert_close(steps, (1 / segment.far - 1 / segment.near)[:, None].expand(2, 4) / 4)


def test_the_part_of_a_ray_within_a_box():
    """Against 20,001 points along each ray."""
    generator = torch.Generator().manual_seed(0)
    origins = 3 * torch.randn(60, 3, generator=generator, dtype=torch.float64)
    targets = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    low, high = torch.tensor([[-1.0, -0.5, -0.8], [0.9, 1.0, 0.4]]).double()
    whole = Segment(torch.full((60,), 0.5).double(), torch.full((60,), 8.0).double())
    found = box_segment(origins, directions, low, high, whole)
    t = torch.linspace(0.5, 8, 20001, dtype=torch.float64)
    points = origins[:, None] + t[:, None] * directions[:, None]
    inside = ((points > low) & (points < high)).all(-1)
    hit = inside.any(1)
    assert 10 < hit.sum() < 50
    assert torch.equal(found.far > found.near, hit)
    assert torch.equal(found.near[~hit], whole.near[~hit])
    first = torch.where(inside, t, torch.inf).amin(1)
    last = torch.where(inside, t, -torch.inf).amax(1)
    torch.testing.assert_close(found.near[hit], first[hit], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.far[hit], last[hit], atol=1e-3, rtol=0)


@pytest.mark.parametrize("y,length", [(0.0, 2.0), (1.5, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rays_along_the_axes(y, length, dtype):
    origin, direction = torch.tensor([[-3.0, y, 0.0], [1.0, -0.0, 0.0]], dtype=dtype)
    ends = torch.tensor([0.0, 9.0], dtype=dtype)
    found = box_segment(origin, direction, -torch.ones(3, dtype=dtype), torch.ones(3, dtype=dtype), Segment(*ends))
    assert (found.far - found.near).item() == pytest.approx(length)
