"""What the tests share: coloured balls, photographed in the layout of NeRF-synthetic."""

from __future__ import annotations

import json
import math

import pytest
import torch
from goembed_nerf_renderer.cameras import look_at, to_opengl, whole_image
from goembed_nerf_renderer.cameras.geometry import Camera, make_intrinsics
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import SphereField
from goembed_nerf_renderer.renderer import VolumeRenderer
from PIL import Image

torch.set_num_threads(1)
SIZE = 24


def balls() -> SphereField:
    """A red, a green and a blue ball, not in one plane."""
    centre = torch.tensor([[[0.35, 0.0, 0.0], [-0.3, 0.3, 0.1], [-0.1, -0.4, -0.2]]])
    colour = torch.tensor([[[0.9, 0.2, 0.1], [0.1, 0.8, 0.3], [0.2, 0.3, 0.9]]])
    return SphereField(
        centre, torch.tensor([[0.4, 0.3, 0.25]]), torch.full((1, 3), 40.0), colour, torch.full((1, 3), 0.1)
    )


def cameras(count: int, seed: int, size: int = SIZE) -> Camera:
    """Cameras all around, at a distance of 3; leaves `(count, ...)`."""
    generator = torch.Generator().manual_seed(seed)
    places = 3 * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    focal, half = torch.full((count,), 1.3 * size), torch.full((count,), size / 2)
    return Camera(
        look_at(places, torch.zeros(3), torch.tensor([0.0, 0.1, 1.0])), make_intrinsics(focal, focal, half, half)
    )


@pytest.fixture(scope="session")
def balls_scene(tmp_path_factory):
    """A folder of the layout `transforms_train.json`, 30 views to fit and 4 that are held out."""
    folder = tmp_path_factory.mktemp("balls")
    renderer = VolumeRenderer(RendererConfig(near=2.0, far=4.0, samples=128, proposal_samples=()))
    for split, count, seed in (("train", 30, 0), ("test", 4, 1)):
        camera = cameras(count, seed)
        poses, angle = to_opengl(camera, SIZE)
        frames = []
        for number in range(count):
            params = whole_image(Camera(*(leaf[None, number : number + 1] for leaf in camera)), SIZE, SIZE)
            seen = renderer.render(balls(), params)
            opacity = seen.opacity[0, 0]
            straight = seen.colour[0, 0] / opacity.clamp(min=1e-6)
            rgba = torch.cat([straight, opacity[None]]).clamp(0, 1).movedim(0, -1)
            (folder / split).mkdir(exist_ok=True)
            Image.fromarray((255 * rgba).round().byte().numpy()).save(folder / split / f"r_{number}.png")
            frames.append({"file_path": f"./{split}/r_{number}", "transform_matrix": poses[number].tolist()})
        layout = {"camera_angle_x": angle[0].item(), "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(layout))
    assert math.isclose(angle[0].item(), 2 * math.atan(0.5 / 1.3), rel_tol=1e-5)
    return folder


@pytest.fixture(scope="session")
def new_balls():
    return balls
