"""What the tests share: the oracle, cameras, and fields that keep account."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from goembed_nerf_renderer.cameras import Camera, look_at, make_intrinsics

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The module beside this one, which is no package."""
    spec = importlib.util.spec_from_file_location("nerf_renderer_oracle", Path(__file__).with_name("oracle.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_cameras(batch=2, views=3, seed=0, dtype=torch.float64, radius=4.0, focal=30.0, width=16, height=12):
    """Cameras around the origin with unlike focal lengths, and principal points off the middle."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(batch, views, *shape, generator=generator, dtype=dtype)

    positions = radius * torch.nn.functional.normalize(
        torch.randn(batch, views, 3, generator=generator, dtype=dtype), dim=-1
    )
    pose = look_at(positions, uniform(-0.2, 0.2, 3), torch.tensor([0.1, 0.2, 1.0], dtype=dtype))
    k = make_intrinsics(
        focal * uniform(0.9, 1.1), focal * uniform(0.9, 1.1), width * uniform(0.4, 0.6), height * uniform(0.4, 0.6)
    )
    return Camera(pose, k)


@pytest.fixture(scope="session")
def new_cameras():
    return make_cameras


class Counting:
    """A field that knows where it was asked."""

    def __init__(self, field):
        self.field, self.asked, self.largest = field, 0, 0

    def __call__(self, points, directions):
        self.asked += points.shape[0] * points.shape[1]
        self.largest = max(self.largest, points.shape[0] * points.shape[1])
        return self.field(points, directions)


@pytest.fixture
def counting():
    return Counting
