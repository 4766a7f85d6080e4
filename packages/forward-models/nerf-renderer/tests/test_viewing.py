"""What `goembed view` renders, and what it says when it cannot."""

from __future__ import annotations

import math
import socket

import pytest
import torch
from goembed_core import cli
from goembed_nerf_renderer import viewer
from goembed_nerf_renderer.cameras import Camera, camera_rays, look_at, project, whole_image
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import SphereField
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_nerf_renderer.viewing import PART, Viewable, browser_camera, cloud, look

RADIUS = 0.5


def ball():
    one = torch.ones(1, 1)
    return SphereField(torch.zeros(1, 1, 3), RADIUS * one, 200 * one, torch.tensor([[[0.9, 0.2, 0.1]]]), 0.02 * one)


def viewable(new_cameras, **changes):
    cameras = new_cameras(1, 6, dtype=torch.float32)
    renderer = VolumeRenderer(RendererConfig(near=2.0, far=6.0, samples=64, proposal_samples=(64,), background="white"))
    return Viewable("ball", ball(), renderer, Camera(*(x[0] for x in cameras)), (16, 12), torch.zeros(3), **changes)


def seen_from(position, height=80, width=96):
    pose = look_at(torch.tensor([position]), torch.zeros(1, 3), torch.tensor([0.0, 0.0, 1.0]))[0]
    return browser_camera(pose[:3, :3], pose[:3, 3], 0.6, height, width)


def test_a_browser_s_camera_sees_its_angle():
    camera = Camera(*(leaf[None, None] for leaf in seen_from([3.0, 1.0, 2.0], 40, 60)))
    rays = camera_rays(camera, torch.tensor([[[[30.0, 0.0], [30.0, 40.0], [30.0, 20.0]]]])).directions[0, 0]
    assert math.acos(rays[0] @ rays[1]) == pytest.approx(0.6, abs=1e-5)
    middle, _ = project(camera, torch.zeros(1, 1, 3))
    assert middle[0, 0, 0].tolist() == pytest.approx([30.0, 20.0], abs=1e-4)


def test_what_is_looked_at_part_by_part_is_the_rendering(new_cameras):
    shown, camera = viewable(new_cameras), seen_from([3.0, 1.0, 2.0])
    picture = look(shown, camera, 80, 96)
    assert PART < 80 * 96  # more than one part
    params = whole_image(Camera(*(leaf[None, None] for leaf in camera)), 80, 96)
    seen = shown.renderer(shown.signal, params)[0, 0]
    assert torch.allclose(picture.colour, seen.movedim(0, -1).clamp(0, 1), atol=1e-6)
    assert picture.depth[40, 48].item() == pytest.approx(math.sqrt(14) - RADIUS, abs=0.03)
    assert picture.depth[0, 0] == math.inf and (picture.colour[0, 0] == 1).all()
    edge = picture.depth[picture.depth.isfinite()].max().item()
    assert edge == pytest.approx((14 - RADIUS**2) / math.sqrt(14), abs=0.05)  # z of the tangent, not its distance


def test_a_look_that_nobody_wants_any_more_ends(new_cameras):
    asked = []
    assert (
        look(viewable(new_cameras), seen_from([3.0, 1.0, 2.0]), 80, 96, lambda: bool(asked) or asked.append(1)) is None
    )


def test_a_cloud_is_on_the_ball(new_cameras):
    shown = viewable(new_cameras)
    points, colours = cloud(shown.renderer, shown.signal, shown.views, 12, 16, 0.9)
    assert len(points) > 20 and (points.norm(dim=1) - RADIUS).abs().max() < 0.03
    assert torch.allclose(colours.median(0).values, torch.tensor([0.9, 0.2, 0.1]), atol=0.01)


def refused(capsys, *words):
    assert cli.main(["view", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_without_viser_it_is_said_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(viewer, "viser", None)
    assert "needs viser: uv pip install 'goembed-nerf-renderer[view]'" in refused(capsys, str(tmp_path))


def test_an_address_that_is_taken_is_refused(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(capsys, str(tmp_path), f"port={port}")
    assert f"host=127.0.0.1 port={port} cannot be listened at" in line and "give another port" in line
    assert "cannot be listened at" in refused(capsys, str(tmp_path), "host=no.such.host.invalid")


def test_only_runs_with_fields_are_shown(tmp_path, capsys):
    assert "is not a run" in refused(capsys, str(tmp_path), f"port={free_port()}")
    (tmp_path / "config.yaml").write_text("task: gan_inversion\n")
    line = refused(capsys, str(tmp_path), f"port={free_port()}")
    assert "task 'gan_inversion' has no fields to view" in line
    assert "show" in refused(capsys, str(tmp_path), 'show=["everything"]')


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
