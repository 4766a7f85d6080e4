"""One scene as a learned field: what fitting asks of it, from the command line of any task and by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from goembed_core import plugins
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.config import SceneBox
from goembed_nerf_renderer.fields import RadianceField
from goembed_triplane.learned import LearnedField

BOX = SceneBox(low=(-1.0, -2.0, -0.5), high=(1.0, 2.0, 0.5))
SMALL = {
    "triplane": {"resolution": 8, "channels": 4},
    "voxels": {"resolution": 6, "channels": 4},
    "factored": {"resolution": 8, "channels": 3},
    "siren": {"hidden_size": 8},
}


def field(name, **settings) -> LearnedField:
    torch.manual_seed(0)
    return plugins.build("radiance-field", name, {"box": BOX, "occupancy_cells": 8, **SMALL[name], **settings})


def inside(number, seed=0):
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    return low + (high - low) * torch.rand(2, number, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_has_a_gradient(name):
    learned, points = field(name), inside(300)
    seen = learned(points, torch.nn.functional.normalize(points, dim=-1))
    assert isinstance(learned, RadianceField) and seen.density.shape == (2, 300) and seen.colour.shape == (2, 300, 3)
    (seen.density.sum() + seen.colour.sum()).backward()
    for weight in learned.parameters():
        assert weight.grad is not None and weight.grad.any()


@pytest.mark.parametrize("name", SMALL)
def test_it_fits_a_ball(name):
    learned, points = field(name), inside(500)
    dense = (points.norm(dim=-1) < 0.45).float()
    colour = torch.stack([points[..., 0] > 0, points[..., 1] > 0, points[..., 2] > 0], -1).float()
    directions = torch.tensor([0.0, 0.0, 1.0]).expand_as(points)
    optimizer = torch.optim.Adam(learned.parameters(), lr=1e-2)
    for _ in range(60):
        seen = learned(points, directions)
        wrong = (dense[..., None] * (seen.colour - colour)).square().sum() / dense.sum()
        error = (1 - torch.exp(-seen.density) - dense).square().mean() + wrong / 3
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    start = (1 - torch.exp(-field(name)(points, None).density) - dense).square().mean()
    assert error < 0.5 * (start + 0.25)  # 0.25 is the error of grey
    before = learned(points, None).density
    for look in range(12):
        learned.find_empty(ItemRandom(0, [look]))
    assert learned.box.occupied.any()
    kept = learned.box.contains(points.flatten(0, 1)).view(2, -1)
    assert torch.allclose(learned(points, None).density[kept], before[kept], rtol=1e-3, atol=1e-5)


def test_what_is_empty_is_found_and_left_out():
    learned = field("voxels", decoder={"density_bias": -30.0})
    points = inside(100)
    assert learned.box.occupied.all() and learned.proposal(points, None).density.min() > 0
    for look in range(20):  # what a cell was taken for fades
        learned.find_empty(ItemRandom(0, [look]))
    assert not learned.box.occupied.any()
    assert not learned(points, points).density.any() and not learned(points, points).colour.any()


def test_the_proposal_is_the_density_of_cells_without_gradient():
    learned = field("triplane", decoder={"density_bias": 2.0, "density_scale": 1.0})
    torch.nn.init.zeros_(learned.decoder.network[-1].weight)
    learned.find_empty(ItemRandom(0, [0]))
    points = inside(100)
    found, exact = learned.proposal(points, None).density, learned(points, None).density
    assert not found.requires_grad and torch.allclose(found, exact, rtol=1e-4)
    assert not learned.proposal(points + 9, None).density.any()


@pytest.mark.parametrize("name", ["triplane", "voxels", "factored"])
def test_variation_is_least_of_a_constant(name):
    learned = field(name)
    random = ItemRandom(0, range(50))
    before = learned.variation(random)
    with torch.no_grad():
        for leaf in learned.leaves:
            leaf.fill_(1.3)
    assert learned.variation(ItemRandom(0, range(50))).item() == pytest.approx(1e-3, rel=1e-2)
    assert before > 0.02


def test_a_network_of_sines_has_no_variation():
    assert field("siren").variation(ItemRandom(0, range(5))).item() == 0


def test_its_state_is_all_there_is_to_know():
    learned, points = field("factored"), inside(20)
    learned.find_empty(ItemRandom(0, [0]))
    torch.manual_seed(9)
    other = plugins.build("radiance-field", "factored", {"box": BOX, "occupancy_cells": 8, **SMALL["factored"]})
    other.load_state_dict(learned.state_dict())
    for a, b in zip(learned(points, points), other(points, points), strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_settings_need_no_torch():
    code = "import sys, goembed_triplane.plugin, goembed_triplane.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_all_eight_are_registered():
    found = {(c.kind, c.name) for c in plugins.host().components if c.distribution == "goembed-triplane"}
    assert found == {(kind, name) for kind in ("forward-model", "radiance-field") for name in SMALL}
    for kind, name in found:
        assert plugins.host().get(kind, name).load_config()
