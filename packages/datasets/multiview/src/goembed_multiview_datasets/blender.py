"""NeRF-synthetic's and instant-ngp's scenes: `transforms.json`, or one for each split."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera, from_opengl, make_intrinsics, resize_camera
from torch import Tensor

from goembed_multiview_datasets.config import BlenderConfig
from goembed_multiview_datasets.pictures import find_picture, read_rgba, require_aspect
from goembed_multiview_datasets.scenes import SceneDataset, View, located, scene_folders

Frame = tuple[Path, int, Mapping[str, Any]]  # the file, its number there, and its entries over those of the file
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL")  # pinholes, once not distorted


def blender(config: BlenderConfig) -> SceneDataset:
    """The dataset `blender`."""
    return SceneDataset(TransformsSource(config), config)


class TransformsSource:
    """Frames as a `transforms.json` lists them: OpenGL's axes, camera to world, intrinsics by angle or in pixels."""

    def __init__(self, config: BlenderConfig):
        expected = "the folder of a scene with its transforms.json, or a folder of such scenes"
        root = located(config.path, "nerf_lego", expected)
        files = [root] if root.is_file() else scene_folders(root, "transforms*.json")
        if not files:
            raise UserError(f"{root}: holds no transforms.json; give `path` {expected}")
        self._near_far = config.near_far
        self._scenes = [_frames(path, config) for path in files]
        self.names = [(path.absolute().parent if path.is_file() else path.absolute()).name for path in files]

    def count(self, scene: int) -> int:
        """How many frames a scene has in the split."""
        return len(self._scenes[scene])

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some frames of a scene."""
        return [self._view(*self._scenes[scene][view]) for view in views]

    def _view(self, file: Path, number: int, frame: Mapping[str, Any]) -> View:
        where = f"{file}: frame {number} ({frame['file_path']})"
        rgba = read_rgba(find_picture(file.parent, frame["file_path"], where))
        camera = camera_of(frame, rgba.shape[2], rgba.shape[1], where)
        return View(where, rgba, camera, self._near_far)


def camera_of(frame: Mapping[str, Any], width: int, height: int, where: str) -> Camera:
    """The camera of a frame, whose image has `width` and `height`.

    **Arguments:**
    - `frame`: its own entries over those of the whole file.
    """
    _require_pinhole(frame, where)
    stated = (_number(frame, "w", where) or width, _number(frame, "h", where) or height)
    require_aspect(where, (width, height), stated)
    fx, fy = _focal(frame, "x", stated[0], where), _focal(frame, "y", stated[1], where)
    if fx is None and fy is None:
        raise UserError(f"{where}: neither camera_angle_x nor fl_x says how wide the camera looks; add one of them")
    fx, fy = fx or fy, fy or fx
    cx, cy = _number(frame, "cx", where), _number(frame, "cy", where)
    numbers = (fx, fy, stated[0] / 2 if cx is None else cx, stated[1] / 2 if cy is None else cy)
    intrinsics = make_intrinsics(*(torch.tensor(number, dtype=torch.float64) for number in numbers))
    pose = from_opengl(_matrix(frame, where), 1.0, width, height).camera_to_world
    return resize_camera(Camera(pose, intrinsics), width / stated[0], height / stated[1])


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    **Raises:** UserError, which names the file.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); fetch it again") from error


def _frames(path: Path, config: BlenderConfig) -> list[Frame]:
    """File, number and entries of each frame of a scene that is in the split."""
    by_split = {split: path / f"transforms_{split}.json" for split in ("train", "val", "test")}
    there = {split: file for split, file in by_split.items() if path.is_dir() and file.is_file()}
    if there:
        wanted = list(there) if config.split == "all" else [config.split]
        if wanted[0] not in there:
            raise UserError(f"{path}: has no {by_split[wanted[0]].name}, but splits {', '.join(there)}; ask for these")
        return [entry for split in wanted for entry in entries(there[split])]
    file = path / "transforms.json" if path.is_dir() else path
    found = entries(file)
    if config.split == "val":
        raise UserError(f"{file}: a single file has no split val; ask for train, test or all")
    if config.split != "all":
        found = [entry for entry in found if (entry[1] % config.holdout == 0) == (config.split == "test")]
    return found


def entries(file: Path) -> list[Frame]:
    """The frames of a `transforms.json`.

    **Raises:** UserError, which names the file.
    """
    content = read_json(file)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise UserError(f'{file}: has no list "frames"; give a transforms.json as NeRF-synthetic or instant-ngp has it')
    shared = {key: value for key, value in content.items() if key != "frames"}
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise UserError(f'{file}: frame {number} has no "file_path"; add the name of its image')
    return [(file, number, shared | frame) for number, frame in enumerate(frames)]


def _require_pinhole(frame: Mapping[str, Any], where: str) -> None:
    bent = [key for key in _DISTORTION if _number(frame, key, where)]
    model = frame.get("camera_model", "PINHOLE")
    if bent or model not in _MODELS or frame.get("is_fisheye"):
        told = ", ".join(f"{key}={frame[key]}" for key in bent) or f"camera_model {model}"
        raise UserError(f"{where}: its lens is distorted ({told}), and pinholes are expected; undistort the images")


def _focal(frame: Mapping[str, Any], axis: str, side: float, where: str) -> float | None:
    """In pixels, from `fl_x` or else from `camera_angle_x` (radians)."""
    focal, angle = _number(frame, f"fl_{axis}", where), _number(frame, f"camera_angle_{axis}", where)
    if focal is not None or angle is None:
        return focal
    if not 0 < angle < math.pi:
        raise UserError(f"{where}: camera_angle_{axis} is {angle:g}, expected radians between 0 and pi")
    return 0.5 * side / math.tan(0.5 * angle)


def _number(frame: Mapping[str, Any], key: str, where: str) -> float | None:
    value = frame.get(key)
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise UserError(f"{where}: {key} is {value!r:.40}, expected a number")
    return None if value is None else float(value)


def _matrix(frame: Mapping[str, Any], where: str) -> Tensor:
    try:
        matrix = torch.tensor(frame.get("transform_matrix"), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        matrix = torch.empty(0)
    if matrix.shape != (4, 4):
        raise UserError(f"{where}: transform_matrix is no 4x4 matrix of numbers; write camera to world there")
    return matrix
