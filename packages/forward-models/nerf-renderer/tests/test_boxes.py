"""Where a field is."""

from __future__ import annotations

import pytest
import torch
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import look_at
from goembed_nerf_renderer.cameras.geometry import inverse_pose
from goembed_nerf_renderer.config import FieldConfig, SceneBox

WORLD = FieldConfig(box=SceneBox(low=(-1.0, 0.0, 2.0), high=(1.0, 4.0, 3.0)))
FRAME = inverse_pose(
    look_at(torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 0.0, 4.0]), torch.tensor([0.0, 1.0, 0.0]))
)
PERSPECTIVE = FieldConfig(
    box=SceneBox(low=(-0.5, -0.4, -0.5), high=(0.5, 0.4, -0.02)), frame=tuple(FRAME.flatten().tolist())
)


@pytest.mark.parametrize("config", [WORLD, PERSPECTIVE])
def test_unit_and_world_are_each_other_s_reverse(config):
    box = FieldBox(config, 8).double()
    unit = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(box.unit(box.world(unit)), unit, atol=1e-6)
    cell, inside = box.cell_of(box.world(unit))
    assert inside.all() and cell.max() < box.occupied.numel()


def test_a_perspective_grows_with_the_distance():
    box = FieldBox(PERSPECTIVE, 10).double()
    near, far = box.world(torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 1.0]], dtype=torch.float64))
    local = torch.stack([near, far]) @ box.frame[:3, :3].mT + box.frame[:3, 3]
    assert local[:, 2].tolist() == pytest.approx([2.0, 50.0])
    points = box.world(torch.tensor([[0.5, 0.5, 0.3], [0.5, 0.5, 0.3001]], dtype=torch.float64))
    length = (points[1] - points[0]).norm().item() / 0.0001 / box.cells[2]  # along the axis
    assert box.cell_length(points)[0].item() == pytest.approx(length, rel=1e-3)


def test_points_behind_the_camera_are_outside():
    box = FieldBox(PERSPECTIVE, 4)
    behind = (torch.tensor([[0.0, 0.0, -3.0]]) - box.frame[:3, 3]) @ box.frame[:3, :3]
    assert not box.contains(behind).any()


def test_cells_are_cubes_about():
    assert FieldBox(WORLD, 8).cells == (4, 8, 2) and FieldBox(WORLD, 8).cell_length(torch.zeros(1, 3)) == 0.5
    assert FieldBox(PERSPECTIVE, 8).cells == (8, 8, 8)
