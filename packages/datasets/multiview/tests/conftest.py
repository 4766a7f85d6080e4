"""What the tests share: a room whose walls have known colours, photographed by known cameras, written by hand.

Everything here is numpy, and knows nothing of the package or of the renderer's cameras.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from goembed_nerf_renderer.cameras import Camera, camera_rays, whole_image
from PIL import Image

torch.set_num_threads(1)
WALL = 9.0  # radius of the round room, in which every camera stands


class Shot(NamedTuple):
    """A camera of the room: OpenCV's axes, camera to world."""

    pose: np.ndarray  # (4, 4)
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


def make_shots(count: int, width: int = 24, height: int = 16, seed: int = 0, centred: bool = False) -> list[Shot]:
    """Cameras about the room; unlike intrinsics, unless they are centred: then of one focal length too."""
    draw = np.random.default_rng(seed)
    shots = []
    for _ in range(count):
        rotation = np.linalg.qr(draw.normal(size=(3, 3)))[0]
        rotation *= np.sign(np.linalg.det(rotation))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, draw.uniform(-3, 3, 3)
        fx, fy, cx, cy = draw.uniform(0.9, 1.2) * width, draw.uniform(0.9, 1.2) * width, 0.45 * width, 0.55 * height
        if centred:
            fx = fy = 1.1 * width
            cx, cy = width / 2, height / 2
        shots.append(Shot(pose, fx, fy, cx, cy, width, height))
    return shots


def wall_colour(points: np.ndarray) -> np.ndarray:
    """The colour of places on the wall, `(..., 3)` in [0, 1]."""
    return 0.5 + 0.45 * points / WALL


def photograph(shot: Shot) -> np.ndarray:
    """What a camera sees, `(height, width, 3)` bytes: each pixel's ray meets the wall somewhere."""
    x = (np.arange(shot.width) + 0.5 - shot.cx) / shot.fx
    y = (np.arange(shot.height) + 0.5 - shot.cy) / shot.fy
    local = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), -1)
    rays = local @ shot.pose[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = shot.pose[:3, 3]
    along = rays @ origin
    distance = -along + np.sqrt(along**2 - origin @ origin + WALL**2)
    return np.uint8(np.round(255 * wall_colour(origin + distance[..., None] * rays)))


def seen_by(camera: Camera, height: int, width: int) -> torch.Tensor:
    """What cameras of the project should see of the wall, `(V, 3, height, width)`, by the project's own rays."""
    camera = Camera(*(leaf[None] for leaf in camera))
    rays = camera_rays(camera, whole_image(camera, height, width).pixels)
    along = (rays.origins * rays.directions).sum(-1, keepdim=True)
    distance = -along + (along**2 - (rays.origins**2).sum(-1, keepdim=True) + WALL**2).sqrt()
    return (0.5 + 0.45 * (rays.origins + distance * rays.directions) / WALL)[0].permute(0, 3, 1, 2)


def require_right(scene, tolerance: float = 0.004) -> None:
    """The images of a scene are what its cameras see: nothing of the convention can be wrong."""
    expected = seen_by(scene.camera, *scene.images.shape[-2:])
    assert (scene.images - expected).abs().max() <= tolerance


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_transforms(folder: Path, shots: list[Shot], name: str = "transforms.json", **shared) -> list[dict]:
    """instant-ngp's file: OpenGL's axes, intrinsics of each frame."""
    frames = []
    for number, shot in enumerate(shots):
        stem = Path(name).stem
        save(folder / "images" / f"{stem}_{number:03}.png", photograph(shot))
        intrinsics = {"fl_x": shot.fx, "fl_y": shot.fy, "cx": shot.cx, "cy": shot.cy, "w": shot.width, "h": shot.height}
        matrix = (shot.pose @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()
        frames.append({"file_path": f"images/{stem}_{number:03}.png", "transform_matrix": matrix} | intrinsics)
    (folder / name).write_text(json.dumps({"frames": frames} | shared))
    return frames


def write_llff(folder: Path, shots: list[Shot], reductions: tuple[int, ...] = (1,)) -> np.ndarray:
    """LLFF's folder: rows of [down, right, backwards | centre | height, width, focal] and two depths."""
    rows = []
    for number, shot in enumerate(shots):
        right, down, forward, centre = shot.pose[:3].T
        matrix = np.stack([down, right, -forward, centre, [shot.height, shot.width, shot.fx]], 1)
        rows.append(np.concatenate([matrix.reshape(-1), [2.0, 11.0]]))
        for reduction in reductions:
            place = "images" if reduction == 1 else f"images_{reduction}"
            small = shot._replace(
                **{field: getattr(shot, field) / reduction for field in ("fx", "fy", "cx", "cy")},
                **{field: getattr(shot, field) // reduction for field in ("width", "height")},
            )
            save(folder / place / f"IMG_{4000 + number}.png", photograph(small))
    np.save(folder / "poses_bounds.npy", np.stack(rows))
    return np.stack(rows)


@pytest.fixture(scope="session")
def room():
    """The helpers of this module, which no test can import."""

    class Room:
        shots = staticmethod(make_shots)
        photograph = staticmethod(photograph)
        save = staticmethod(save)
        require_right = staticmethod(require_right)
        transforms = staticmethod(write_transforms)
        llff = staticmethod(write_llff)

    return Room


def public(folder: str) -> Path:
    data = os.environ.get("GOEMBED_DATA")
    if not data or not (Path(data) / folder).is_dir():
        pytest.skip(f"needs GOEMBED_DATA with the folder {folder}")
    return Path(data) / folder


@pytest.fixture
def lego() -> Path:
    return public("nerf_lego")


@pytest.fixture
def fern() -> Path:
    return public("llff_fern")
