"""NeRF's network in its box."""

from __future__ import annotations

import pytest
import torch
from goembed_core.randomness import ItemRandom
from goembed_fit_scene.config import MLPFieldConfig
from goembed_fit_scene.networks import MLPField, sines
from goembed_nerf_renderer.config import SceneBox

BOX = SceneBox(low=(-1.0, -1.0, -1.0), high=(1.0, 1.0, 1.0))


def field(**settings):
    torch.manual_seed(0)
    return MLPField(MLPFieldConfig(box=BOX, hidden_size=16, occupancy_cells=8, **settings))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_every_weight_has_a_gradient(depth):
    network = field(depth=depth)
    points = 2 * torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0)) - 1
    seen = network(points, torch.nn.functional.normalize(points, dim=2))
    assert seen.density.shape == (2, 50) and seen.colour.shape == (2, 50, 3)
    (seen.density.sum() + seen.colour.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_light_that_crosses_an_unfitted_box_is_dimmed_as_was_asked():
    network = field(initial_depth=0.5)
    torch.nn.init.zeros_(network.density.weight)
    torch.nn.init.zeros_(network.density.bias)
    line = torch.stack([torch.linspace(-1, 1, 101), torch.zeros(101), torch.zeros(101)], 1)
    assert network(line[None], None).density.mean().item() * 2 == pytest.approx(0.5, rel=1e-4)


def test_the_cells_that_are_looked_at_hold_what_there_is():
    network = field()
    torch.nn.init.zeros_(network.density.weight)
    network.density.bias.data[:] = -20.0
    for look in range(120):  # what a cell was taken for fades
        network.find_empty(ItemRandom(0, [look]))
    assert not network.box.occupied.any()
    network.density.bias.data[:] = 3.0
    network.find_empty(ItemRandom(0, [0]))
    assert network.box.occupied.all()
    points = torch.zeros(1, 1, 3)
    assert network.proposal(points, None).density.item() == pytest.approx(
        network(points, None).density.item(), rel=1e-4
    )
    assert network.proposal(points + 5, None).density.item() == 0


def test_what_was_seen_fades_and_is_not_forgotten_at_once():
    network = field()
    torch.nn.init.zeros_(network.density.weight)
    network.density.bias.data[:] = 3.0
    network.find_empty(ItemRandom(0, [0]))
    dense = network.depths.clone()
    network.density.bias.data[:] = -20.0
    network.find_empty(ItemRandom(0, [1]))
    assert torch.allclose(network.depths, 0.95 * dense) and network.box.occupied.all()


def test_an_unfitted_proposal_lets_light_through_to_the_back():
    """As much as the network itself lets through: samples lie all along the rays, not at the front of the box."""
    points = torch.linspace(-0.99, 0.99, 50)[:, None].expand(1, 50, 3)
    density = field(initial_depth=0.5).proposal(points, None).density
    assert torch.allclose(density, torch.full_like(density, 0.25), rtol=1e-4)  # 0.5 over the two units of the box


def test_sines_are_of_every_octave():
    found = sines(torch.tensor([[0.5, -1.0]]), 2)
    assert found.shape == (1, 10)
    angles = torch.tensor([1.0, 2.0])[:, None] * torch.pi / 2 * torch.tensor([0.5, -1.0])
    assert torch.allclose(found[0, 2:], torch.cat([angles.sin().flatten(), angles.cos().flatten()]), atol=1e-6)
