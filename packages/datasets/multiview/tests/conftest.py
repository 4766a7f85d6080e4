"""What the tests share: a room whose walls have known colours, photographed by known cameras, written by hand.

Everything here is numpy, and knows nothing of the package or of the renderer's cameras.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import NamedTuple

import av
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


def write_omniobject(folder: Path, shots: list[Shot]) -> None:
    """OmniObject3D's renderings of one object: square pictures of one field of view."""
    frames = []
    for number, shot in enumerate(shots):
        save(folder / "render" / "images" / f"r_{number}.png", photograph(shot))
        matrix = (shot.pose @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()
        frames.append({"file_path": f"r_{number}", "scale": 0.5, "transform_matrix": matrix})
    angle = 2 * np.arctan(0.5 * shots[0].width / shots[0].fx)
    (folder / "render" / "transforms.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))


def write_srn(folder: Path, shots: list[Shot]) -> None:
    """An object of SRN's cars or chairs."""
    (folder / "pose").mkdir(parents=True)
    shot = shots[0]
    lines = [f"{shot.fx} {shot.cx} {shot.cy} 0.", "0. 0. 0.", "1.", f"{shot.height} {shot.width}"]
    (folder / "intrinsics.txt").write_text("\n".join(lines) + "\n")
    for number, shot in enumerate(shots):
        save(folder / "rgb" / f"{number:06}.png", photograph(shot))
        (folder / "pose" / f"{number:06}.txt").write_text(" ".join(map(str, shot.pose.reshape(-1))) + "\n")


def write_co3d(root: Path, category: str, sequences: dict[str, list[Shot]], version: int = 2) -> None:
    """A category of CO3D: annotations in gzip, PyTorch3D's cameras, and a list of which frame is of which split."""
    annotations, split = [], {"train": [], "val": [], "test": []}
    for name, shots in sequences.items():
        for place, shot in enumerate(shots):
            number = place + 1
            image = f"{category}/{name}/images/frame{number:06}.jpg"
            mask = f"{category}/{name}/masks/frame{number:06}.png"
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photograph(shot)).save(root / image, quality=100, subsampling=0)
            half = np.zeros((shot.height, shot.width), np.uint8)
            half[:, : shot.width // 2] = 255
            save(root / mask, half)
            flipped = np.diag([-1.0, -1.0, 1.0])
            world_to_camera = np.linalg.inv(shot.pose)
            scale = np.full(2, min(shot.width, shot.height) / 2)
            if version == 1:
                scale = np.array([shot.width / 2, shot.height / 2])
            viewpoint = {
                "R": (flipped @ world_to_camera[:3, :3]).T.tolist(),
                "T": (flipped @ world_to_camera[:3, 3]).tolist(),
                "focal_length": (np.array([shot.fx, shot.fy]) / scale).tolist(),
                "principal_point": ((np.array([shot.width / 2 - shot.cx, shot.height / 2 - shot.cy])) / scale).tolist(),
            }
            if version == 2:
                viewpoint["intrinsics_format"] = "ndc_isotropic"
            annotations.append(
                {
                    "sequence_name": name,
                    "frame_number": number,
                    "frame_timestamp": number / 10,
                    "image": {"path": image, "size": [shot.height, shot.width]},
                    "depth": {"path": "", "scale_adjustment": 1.0, "mask_path": None},
                    "mask": {"path": mask, "mass": float((half > 0).sum())},
                    "viewpoint": viewpoint,
                    "meta": None,
                }
            )
            split["test" if place % 3 == 2 else "train"].append([name, number, image])
    draw = np.random.default_rng(0)
    draw.shuffle(annotations)  # nothing says that they come in order
    quality = [
        {"sequence_name": name, "category": category, "viewpoint_quality_score": None if place == 0 else float(place)}
        for place, name in enumerate(sequences)
    ]
    for name, content in (("frame", annotations), ("sequence", quality)):
        with gzip.open(root / category / f"{name}_annotations.jgz", "wt") as file:
            json.dump(content, file)
    (root / category / "set_lists").mkdir()
    (root / category / "set_lists" / "set_lists_fewview_dev.json").write_text(json.dumps(split))


def write_realestate(file: Path, shots: list[Shot], video: str = "a-B_c1", first_ms: int = 100) -> list[int]:
    """A clip's cameras, ten a second; their timestamps."""
    lines, stamps = [f"https://www.youtube.com/watch?v={video}"], []
    for number, shot in enumerate(shots):
        stamps.append(1000 * (first_ms + 100 * number))
        fractions = [shot.fx / shot.width, shot.fy / shot.height, shot.cx / shot.width, shot.cy / shot.height, 0.0, 0.0]
        numbers = [*fractions, *np.linalg.inv(shot.pose)[:3].reshape(-1)]
        lines.append(" ".join([str(stamps[-1]), *(f"{value:.9f}" for value in numbers)]))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return stamps


def write_video(path: Path, pictures: list[np.ndarray]) -> None:
    """Ten pictures a second, as they are to the last bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"crf": "0"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size, stream.codec_context.thread_count = "rgb24", 5, 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


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
        omniobject = staticmethod(write_omniobject)
        srn = staticmethod(write_srn)
        co3d = staticmethod(write_co3d)
        realestate = staticmethod(write_realestate)
        video = staticmethod(write_video)

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


@pytest.fixture
def furniture() -> Path:
    return public("furniture")


@pytest.fixture
def aircraft() -> Path:
    return public("aircraft")
