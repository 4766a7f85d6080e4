"""What is exported is where the field is, and opens again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh
from goembed_core.errors import UserError
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera, look_at
from goembed_nerf_renderer.cameras.geometry import inverse_pose
from goembed_nerf_renderer.config import FieldConfig, RendererConfig, SceneBox
from goembed_nerf_renderer.export import as_mesh, as_points
from goembed_nerf_renderer.fields import ProposedField, SphereField
from goembed_nerf_renderer.renderer import VolumeRenderer

RADIUS, CENTRE, DENSITY, EDGE = 0.5, (0.2, -0.1, 0.3), 200.0, 0.05
COLOUR, ONE = (0.9, 0.4, 0.1), torch.ones(1, 1)
BALL = SphereField(torch.tensor([[CENTRE]]), RADIUS * ONE, DENSITY * ONE, torch.tensor([[COLOUR]]), EDGE * ONE)
# Where a cell of 1 / 24 stops half of the light: the density falls linearly within the edge.
SURFACE = RADIUS + EDGE * (0.5 - math.log(2) * 24 / DENSITY)


class Ball:
    """One ball, in a box of the world or in a camera's perspective; coloured by its position."""

    def __init__(self, config):
        self.box = FieldBox(config, 48)

    def __call__(self, points, directions):
        found = BALL(points, directions)
        return found._replace(colour=None if directions is None else (points + 1).clamp(0, 2) / 2)

    def proposal(self, points, directions):
        return self(points, None)


def world():
    return Ball(FieldConfig(box=SceneBox(low=(-1.0, -1.0, -1.0), high=(1.0, 1.0, 1.0))))


def perspective():
    frame = inverse_pose(look_at(torch.tensor([0.2, -0.1, -3.0]), torch.tensor(CENTRE), torch.tensor([0.0, -1.0, 0.0])))
    box = SceneBox(low=(-0.25, -0.25, -1 / 2.0), high=(0.25, 0.25, -1 / 5.0))
    return Ball(FieldConfig(box=box, frame=tuple(frame.flatten().tolist())))


@pytest.mark.parametrize("make", [world, perspective])
def test_a_mesh_is_the_ball_and_opens_again(make, tmp_path):
    ball = make()
    as_mesh(ball, ball.box, 64, 0.5).export(tmp_path / "mesh.glb")
    scene = trimesh.load(tmp_path / "mesh.glb")
    (mesh,) = scene.geometry.values()
    distance = np.linalg.norm(mesh.vertices - np.array(CENTRE), axis=1)
    assert abs(distance - SURFACE).max() < 0.03
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * math.pi * SURFACE**3, rel=0.06)  # faces outwards
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    assert abs(colours - (mesh.vertices + 1) / 2).max() < 0.01


def test_what_reaches_the_box_is_closed_there():
    whole = Ball(FieldConfig(box=SceneBox(low=(-1.0, -1.0, 0.3), high=(1.0, 1.0, 1.0))))
    mesh = as_mesh(whole, whole.box, 64, 0.5)
    assert mesh.is_watertight and mesh.volume == pytest.approx(2 / 3 * math.pi * SURFACE**3, rel=0.04)


def test_a_field_without_cells_of_its_own_is_seen_in_those_of_the_lattice():
    def orange(points, directions):
        return BALL(points, directions)._replace(colour=torch.tensor(COLOUR).expand_as(points))

    box = FieldBox(FieldConfig(box=SceneBox(low=(-1.0, -0.8, -0.5), high=(1.0, 0.8, 1.1))), 40)
    mesh = as_mesh(orange, box, 40, 0.3)
    surface = RADIUS + EDGE * (0.5 + math.log(1 - 0.3) * 20 / DENSITY)  # where a cell of 2 / 40 stops so much
    distance = np.linalg.norm(mesh.vertices - np.array(CENTRE), axis=1)
    assert mesh.is_watertight and abs(distance - surface).max() < 0.03
    colours = np.asarray(mesh.visual.vertex_colors)
    assert abs(colours[:, :3] / 255 - np.array(COLOUR)).max() < 0.01 and (colours[:, 3] == 255).all()


def test_a_corner_has_the_colour_that_is_seen_from_straight_above():
    def glossy(points, directions):
        found = BALL(points, directions)
        return found._replace(colour=None if directions is None else (1 - directions) / 2)

    mesh = as_mesh(glossy, world().box, 48, 0.5)
    away = (mesh.vertices - np.array(CENTRE)) / np.linalg.norm(mesh.vertices - np.array(CENTRE), axis=1)[:, None]
    seen = np.asarray(mesh.visual.vertex_colors)[:, :3] / 127.5 - 1
    assert (seen * away).sum(1).min() > 0.75  # corners' own normals, of a coarse lattice


def test_points_are_on_the_ball_and_open_again(new_cameras, tmp_path):
    views = Camera(*(leaf[0] for leaf in new_cameras(1, 20, 0, torch.float32, 3.0, 31.0, 24, 24)))
    ball = world()
    renderer = VolumeRenderer(RendererConfig(near=1.5, far=4.5, samples=96, proposal_samples=(96,)))
    as_points(renderer, ProposedField(ball, (ball.proposal,)), views, 24, 24, 0.9).export(tmp_path / "points.ply")
    cloud = trimesh.load(tmp_path / "points.ply")
    distance = np.linalg.norm(cloud.vertices - np.array(CENTRE), axis=1)
    assert len(cloud.vertices) > 500 and abs(distance - RADIUS).max() < 0.05
    away = (cloud.vertices - np.array(CENTRE)) / distance[:, None]
    assert abs(away.mean(0)).max() < 0.3  # seen from all around
    colours = np.asarray(cloud.colors)[:, :3] / 255
    assert np.quantile(abs(colours - (cloud.vertices + 1) / 2), 0.99) < 0.03  # but where a ray grazes it


def test_where_there_is_nothing_it_is_said(new_cameras):
    empty = Faint(world())
    with pytest.raises(UserError, match=r"no cell of the field stops 0\.9999999 of the light \(the most is 0\.00"):
        as_mesh(empty, empty.box, 16, 0.9999999)
    views = Camera(*(leaf[0] for leaf in new_cameras(1, 3, dtype=torch.float32)))
    with pytest.raises(UserError, match=r"no pixel of 3 views stops min_opacity=0\.9 of the light \(the most is 0\.1"):
        as_points(VolumeRenderer(RendererConfig(near=2.0, far=6.0)), empty, views, 12, 16, 0.9)


class Faint:
    """A field that stops next to nothing."""

    def __init__(self, field):
        self.box, self.field = field.box, field

    def __call__(self, points, directions):
        found = self.field(points, directions)
        return found._replace(density=1e-3 * found.density)
