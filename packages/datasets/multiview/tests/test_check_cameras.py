"""The page on cameras, and that it tells right ones from wrong ones."""

import re

import pytest
import torch
from goembed_core.config import resolve_model
from goembed_core.errors import UserError
from goembed_multiview_datasets.boxes import BoxDataset
from goembed_multiview_datasets.check_cameras import check_cameras, closest_to_sights, judge
from goembed_multiview_datasets.config import BoxesConfig, CheckCamerasConfig
from goembed_multiview_datasets.consistency import MISTAKES, along_ray, nearest_views, strong_corners
from goembed_nerf_renderer.cameras import Camera, look_at, project


@pytest.fixture(scope="module")
def scene():
    return BoxDataset(BoxesConfig(boxes=3, views=24, size=64))[1]


def test_right_cameras_fit_best(scene):
    verdict = judge(scene)
    assert verdict.suspect is None and verdict.errors[""] == min(verdict.errors.values())


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if "exchanged" not in name])
def test_a_mistake_is_named(scene, mistake):
    """These are their own reverse."""
    pose = MISTAKES[mistake](scene.camera.camera_to_world)
    assert judge(scene._replace(camera=scene.camera._replace(camera_to_world=pose))).suspect == mistake


def test_axes_of_llff_are_named(scene):
    pose = scene.camera.camera_to_world
    down_right_back = torch.stack([pose[..., 1], pose[..., 0], -pose[..., 2], pose[..., 3]], -1)
    assert "LLFF" in judge(scene._replace(camera=scene.camera._replace(camera_to_world=down_right_back))).suspect


def test_the_place_that_is_looked_at():
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([0.3, -0.2, 0.7])
    position = target + 3 * torch.randn(7, 3, generator=generator)
    pose = look_at(position, target.expand(7, 3), torch.tensor([0.0, 0.1, 1.0]))
    assert torch.allclose(closest_to_sights(pose), target, atol=1e-4)
    parallel = torch.eye(4).repeat(4, 1, 1)
    parallel[:, :2, 3] = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    assert torch.allclose(closest_to_sights(parallel), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)


def test_points_along_a_ray_are_seen_at_its_pixel(scene):
    pixels = torch.tensor([[3.5, 60.0], [32.0, 20.5]])
    points = along_ray(scene.camera, 4, pixels, scene.near_far[4], 5)
    found, depth = project(Camera(*(leaf[None, 4:5] for leaf in scene.camera)), points.flatten(0, 1)[None])
    assert torch.allclose(found[0, 0].unflatten(0, (2, 5)), pixels[:, None].expand(2, 5, 2), atol=1e-3)
    distance = (points - scene.camera.camera_to_world[4, :3, 3]).norm(dim=-1)
    assert torch.allclose(distance[:, [0, -1]], scene.near_far[4].expand(2, 2)) and (depth > 0).all()


def test_neighbours_and_corners(scene):
    angle = torch.arange(12) * torch.pi / 6
    circle = torch.stack([angle.cos(), angle.sin(), torch.zeros(12)], -1)
    pose = look_at(circle, torch.zeros(12, 3), torch.tensor([0.0, 0.0, 1.0]))
    assert sorted(nearest_views(pose, 5, 2)) == [4, 6] and sorted(nearest_views(pose, 0, 4)) == [1, 2, 10, 11]
    image = torch.zeros(1, 3, 32, 32)
    image[..., 10:, 17:] = 1
    corner = strong_corners(scene._replace(images=image), 0, 1)
    assert (corner - torch.tensor([[17, 10]])).abs().max() <= 1


def settings(*words):
    return resolve_model(CheckCamerasConfig, list(words)).config


def test_the_page(tmp_path, capsys):
    out = tmp_path / "page.html"
    words = ["dataset=boxes", "dataset.views=8", "dataset.size=32", "dataset.boxes=2", f"out={out}"]
    assert check_cameras(settings(*words)) == 0
    assert capsys.readouterr().out == f"no other convention fits better; look at {out}\n"
    text = out.read_text()
    assert text.count("data:image/") >= 3 and all(name in text for name in ("as they are", "LLFF", "Epipolar lines"))
    assert re.search(r"8 views of 32 x 32 pixels", text)
    for wrong, told in (("item=10000000", "the dataset has 10000000"), ("view=8", "the item has 8 views")):
        with pytest.raises(UserError, match=told):
            check_cameras(settings(*words, wrong))


def test_datasets_without_cameras(tmp_path):
    with pytest.raises(UserError, match="dataset=sprites: holds no posed views"):
        check_cameras(settings("dataset=sprites", "dataset.textures=noise", f"out={tmp_path / 'page.html'}"))
