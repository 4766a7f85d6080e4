"""An object's views as files: OmniObject3D's layout, whole or not there."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import threading
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import OpenEXR
from goembed_core.errors import UserError
from goembed_core.files import TEMPORARY_PREFIX
from jaxtyping import Float
from PIL import Image

from goembed_multiview_datasets.meshes.model import place, require_sound
from goembed_multiview_datasets.meshes.sources import Entry, read_mesh
from goembed_multiview_datasets.meshes.views import RenderedView, Shading, make_model, render

DISTANCE = 4.0  # of the cameras from the origin; objects lie within a distance of 1 of it
NEAR_FAR = (DISTANCE - 1, DISTANCE + 1)
FIELD_OF_VIEW = 2 * math.asin(1 / DISTANCE) * 1.04  # the unit ball, and a little
NO_DEPTH = 65504.0  # where nothing is seen, as in OmniObject3D
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # x right, y up, z backwards


class Order(NamedTuple):
    """What a process needs to render an object."""

    entry: Entry
    source: Path
    out: Path
    camera_to_world: Float[np.ndarray, "views 4 4"]
    size: int
    samples: int
    shading: Shading
    up: str | None


class Outcome(NamedTuple):
    """What came of it."""

    folder: str
    error: str | None


def carry_out(order: Order) -> Outcome:
    """Render an object into its folder; what the user can mend is the outcome's error."""
    try:
        _write(order)
    except UserError as error:
        return Outcome(order.entry.folder, str(error))
    return Outcome(order.entry.folder, None)


def end_with_parent() -> None:
    """Let this process end when the one that started it is gone, whatever that one died of."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write(order: Order) -> None:
    entry = order.entry
    mesh, up = read_mesh(entry, order.source)
    require_sound(mesh, entry.place)
    mesh, placing = place(mesh, order.up or up, entry.place)
    model = make_model(mesh, order.shading)
    focal = 0.5 * order.size / math.tan(0.5 * FIELD_OF_VIEW)
    intrinsics = np.array([[focal, 0, order.size / 2], [0, focal, order.size / 2], [0, 0, 1]])
    views = [render(model, pose, intrinsics, order.size, order.samples) for pose in order.camera_to_world]
    if not any(view.rgba[..., 3].any() for view in views):
        raise UserError(f"{entry.place}: nothing of it is seen; all of it is transparent or too thin")
    frames = [
        {"file_path": f"r_{number}", "scale": placing.scale, "transform_matrix": (pose @ OPENGL).tolist()}
        for number, pose in enumerate(order.camera_to_world)
    ]
    head = {"camera_angle_x": FIELD_OF_VIEW, "near": NEAR_FAR[0], "far": NEAR_FAR[1], "centre": placing.centre.tolist()}
    place_of = order.out / entry.folder
    temporary = place_of.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{place_of.name}"
    try:
        for part in ("images", "depths", "normals"):
            (temporary / "render" / part).mkdir(parents=True)
        for number, view in enumerate(views):
            write_view(temporary / "render", number, view)
        (temporary / "render" / "transforms.json").write_text(json.dumps(head | {"frames": frames}, indent=1))
        os.rename(temporary, place_of)  # not synced to the disk: that would take longer than the pictures
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_view(folder: Path, number: int, view: RenderedView) -> None:
    """`images/r_0.png` (RGBA), `depths/r_0_depth.exr` (float32, along z) and `normals/r_0_normal.png` (RGBA)."""
    alpha = view.rgba[..., 3:]
    straight = np.divide(view.rgba[..., :3], alpha, out=np.zeros_like(view.rgba[..., :3]), where=alpha > 0)
    _save(folder / "images" / f"r_{number}.png", np.concatenate([straight, alpha], -1))
    there = view.depth > 0
    normal = np.concatenate([np.where(there[..., None], 0.5 + 0.5 * view.normal, 0), there[..., None]], -1)
    _save(folder / "normals" / f"r_{number}_normal.png", normal)
    depth = np.where(there, view.depth, NO_DEPTH).astype(np.float32)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    planes = np.ascontiguousarray(np.repeat(depth[..., None], 3, -1))
    OpenEXR.File(header, {"RGB": planes}).write(str(folder / "depths" / f"r_{number}_depth.exr"))


def _save(path: Path, rgba: np.ndarray) -> None:
    Image.fromarray(np.round(255 * rgba.clip(0, 1)).astype(np.uint8)).save(path)
