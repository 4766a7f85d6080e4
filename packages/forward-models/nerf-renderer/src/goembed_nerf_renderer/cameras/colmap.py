"""COLMAP's cameras: `cameras.txt` and `images.txt`, world to camera by quaternion and translation, our axes.

Its pixels have their centres at halves as ours do.  Lenses with distortion are refused: undistort the images first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from goembed_core.errors import UserError, did_you_mean
from jaxtyping import Float
from torch import Tensor

from goembed_nerf_renderer.cameras.geometry import Camera, homogeneous, inverse_pose, make_intrinsics

# Parameters by model: those of a pinhole camera, then those of the distortion.
MODELS: dict[str, tuple[str, str]] = {
    "SIMPLE_PINHOLE": ("f cx cy", ""),
    "PINHOLE": ("fx fy cx cy", ""),
    "SIMPLE_RADIAL": ("f cx cy", "k"),
    "RADIAL": ("f cx cy", "k1 k2"),
    "OPENCV": ("fx fy cx cy", "k1 k2 p1 p2"),
    "FULL_OPENCV": ("fx fy cx cy", "k1 k2 p1 p2 k3 k4 k5 k6"),
}
CURVED = (
    "OPENCV_FISHEYE",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
    "FOV",
    "RAD_TAN_THIN_PRISM_FISHEYE",
)


def from_colmap(
    qvec: Float[Tensor, "*n 4"], tvec: Float[Tensor, "*n 3"], model: str, params: Sequence[float]
) -> Camera:
    """Cameras of one lens: `x_camera = R(q) x_world + t`, with `q = (w, x, y, z)`.

    **Arguments:**
    - `model`, `params`: the line of `cameras.txt`, such as `PINHOLE` and `fx, fy, cx, cy`.

    **Raises:** UserError for a lens that is not known, has another number of parameters, or distorts.
    """
    names, distortion = _parameters(model, params)
    values = dict(zip(names + distortion, params, strict=True))
    bent = {name: values[name] for name in distortion if values[name] != 0}
    if bent:
        given = ", ".join(f"{name}={value:g}" for name, value in bent.items())
        raise UserError(
            f"COLMAP camera {model} has a distortion ({given}); expected a pinhole camera: undistort the images "
            f"(colmap image_undistorter) and use the cameras that it writes"
        )
    focal = values.get("f", 0.0)
    numbers = (values.get("fx", focal), values.get("fy", focal), values["cx"], values["cy"])
    intrinsics = make_intrinsics(*(torch.full_like(qvec[..., 0], number) for number in numbers))
    return Camera(inverse_pose(homogeneous(quaternion_to_rotation(qvec), tvec)), intrinsics)


def to_colmap(camera: Camera) -> tuple[Float[Tensor, "*n 4"], Float[Tensor, "*n 3"], Float[Tensor, "*n 4"]]:
    """`qvec` with `w >= 0`, `tvec`, and the parameters of a `PINHOLE` for each; a skew is left out."""
    world_to_camera = inverse_pose(camera.camera_to_world)
    k = camera.intrinsics
    params = torch.stack([k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]], -1)
    return rotation_to_quaternion(world_to_camera[..., :3, :3]), world_to_camera[..., :3, 3], params


def quaternion_to_rotation(q: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """The rotation of a quaternion `(w, x, y, z)`, which is normalised first."""
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def rotation_to_quaternion(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 4"]:
    """The quaternion `(w, x, y, z)` of a rotation, with `w >= 0`.

    `4 q qᵀ` is linear in the rotation; its row with the largest diagonal is the quaternion, up to its length.
    """
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = (
        [1 + xx + yy + zz, wx, wy, wz],
        [wx, 1 + xx - yy - zz, xy, xz],
        [wy, xy, 1 - xx + yy - zz, yz],
        [wz, xz, yz, 1 - xx - yy + zz],
    )
    products = torch.stack([torch.stack(row, -1) for row in rows], -2)
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*m.shape[:-2], 1, 4)
    q = products.gather(-2, largest)[..., 0, :]
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def _parameters(model: str, params: Sequence[float]) -> tuple[list[str], list[str]]:
    """The names of a lens's parameters, once there are as many as it has."""
    if model in CURVED:
        raise UserError(
            f"COLMAP camera {model} is no pinhole camera: undistort the images (colmap image_undistorter) and use "
            f"the cameras that it writes"
        )
    if model not in MODELS:
        raise UserError(f"unknown COLMAP camera {model!r}{did_you_mean(model, MODELS)}; there are {', '.join(MODELS)}")
    names, distortion = (text.split() for text in MODELS[model])
    if len(params) != len(names + distortion):
        raise UserError(
            f"COLMAP camera {model} with {len(params)} parameters, expected {len(names + distortion)}: "
            f"{', '.join(names + distortion)}"
        )
    return names, distortion
