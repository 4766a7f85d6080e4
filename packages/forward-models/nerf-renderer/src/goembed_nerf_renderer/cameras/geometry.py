"""Pinhole cameras: rays, projection and its reverse, frusta.

All of it is differentiable in the poses and the intrinsics.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.precision import without_autocast
from goembed_core.shapes import require_views
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Camera(NamedTuple):
    """Pose and intrinsics of each view: x to the right, y down, z forward; every leaf `(B, V, ...)`."""

    camera_to_world: Float[Tensor, "batch views 4 4"]
    intrinsics: Float[Tensor, "batch views 3 3"]  # K in pixels; pixel (0, 0) has its centre at (0.5, 0.5)


class CameraRays(NamedTuple):
    """A ray through each pixel: `x = origin + t direction`, where `t` is the distance from the camera."""

    origins: Float[Tensor, "batch views *shape 3"]
    directions: Float[Tensor, "batch views *shape 3"]  # unit vectors


def make_intrinsics(
    fx: Float[Tensor, "*n"], fy: Float[Tensor, "*n"], cx: Float[Tensor, "*n"], cy: Float[Tensor, "*n"]
) -> Float[Tensor, "*n 3 3"]:
    """`K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`, all in pixels."""
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = ([fx, zero, cx], [zero, fy, cy], [zero, zero, one])
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def look_at(
    positions: Float[Tensor, "*n 3"], targets: Float[Tensor, "*#n 3"], up: Float[Tensor, "*#n 3"]
) -> Float[Tensor, "*n 4 4"]:
    """Camera to world of cameras at `positions` that look at `targets`, `up` being up in the image.

    `up` is a direction of the world, and may not be parallel to the line of sight.
    """
    forward = F.normalize(targets - positions, dim=-1)
    right = F.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -1)
    return homogeneous(rotation, positions)


def homogeneous(rotation: Float[Tensor, "*n 3 3"], translation: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 4 4"]:
    """`[[R, t], [0, 1]]`."""
    last = torch.zeros_like(rotation[..., :1, :])
    upper = torch.cat([rotation, translation[..., None]], -1)
    return torch.cat([upper, torch.cat([last, torch.ones_like(last[..., :1])], -1)], -2)


def inverse_pose(pose: Float[Tensor, "*n 4 4"]) -> Float[Tensor, "*n 4 4"]:
    """The inverse of a rigid motion: `[[Rᵀ, −Rᵀ t], [0, 1]]`."""
    rotation = pose[..., :3, :3].mT
    return homogeneous(rotation, -(rotation @ pose[..., :3, 3:])[..., 0])


def camera_rays(camera: Camera, pixels: Float[Tensor, "batch views *shape 2"]) -> CameraRays:
    """The ray through each position `(x, y)` in pixels; `(0.5, 0.5)` is the centre of the first one."""
    require_views(camera, len(pixels), camera_to_world=(4, 4), intrinsics=(3, 3))
    with without_autocast(pixels.device):
        directions = _rotate(camera, F.normalize(_at_unit_depth(camera, pixels), dim=-1))
        origins = _per_view(camera.camera_to_world[..., :3, 3], pixels.dim()).expand_as(directions)
    return CameraRays(origins, directions)


def project(
    camera: Camera, points: Float[Tensor, "batch n 3"]
) -> tuple[Float[Tensor, "batch views n 2"], Float[Tensor, "batch views n"]]:
    """Where points of the world are seen, `K (Rᵀ (x − c))`: pixels `(x, y)`, and the depth along z.

    A point is before the camera where its depth is positive; the pixels of others mean nothing.
    """
    require_views(camera, len(points), camera_to_world=(4, 4), intrinsics=(3, 3))
    with without_autocast(points.device):
        relative = points[:, None] - camera.camera_to_world[:, :, None, :3, 3]
        local = relative @ camera.camera_to_world[..., :3, :3]
        seen = local @ camera.intrinsics.mT
        return seen[..., :2] / seen[..., 2:], local[..., 2]


def unproject(
    camera: Camera, pixels: Float[Tensor, "batch views *shape 2"], depth: Float[Tensor, "batch views *shape"]
) -> Float[Tensor, "batch views *shape 3"]:
    """The point of the world at a depth along z, the reverse of `project`.

    A renderer's depth is the distance along the ray instead: `origin + depth · direction` of `camera_rays`.
    """
    require_views(camera, len(pixels), camera_to_world=(4, 4), intrinsics=(3, 3))
    with without_autocast(pixels.device):
        local = _at_unit_depth(camera, pixels) * depth[..., None]
        return _rotate(camera, local) + _per_view(camera.camera_to_world[..., :3, 3], pixels.dim())


def frustum(
    camera: Camera, image_size: Float[Tensor, "batch views 2"], depth: float
) -> Float[Tensor, "batch views 5 3"]:
    """The camera's centre and the corners of its image at a depth: top left, top right, bottom right, bottom left.

    **Arguments:**
    - `image_size`: width and height in pixels.
    """
    unit = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).to(image_size)
    pixels = unit * image_size[:, :, None]
    corners = unproject(camera, pixels, torch.full_like(pixels[..., 0], depth))
    return torch.cat([camera.camera_to_world[:, :, None, :3, 3], corners], 2)


def resize_camera(camera: Camera, scale_x: float, scale_y: float) -> Camera:
    """The camera of the image after it was resized: with half-pixel centres, `K` scales with its sides."""
    scale = camera.intrinsics.new_tensor([[scale_x], [scale_y], [1.0]])
    return camera._replace(intrinsics=camera.intrinsics * scale)


def crop_camera(camera: Camera, left: float, top: float) -> Camera:
    """The camera of a crop that begins `left` and `top` pixels within the image."""
    shift = torch.zeros(3, 3)
    shift[0, 2], shift[1, 2] = left, top
    return camera._replace(intrinsics=camera.intrinsics - shift.to(camera.intrinsics))


def require_cameras(camera: Camera, tolerance: float = 1e-3) -> None:
    """Refuse what is no camera: poses that are no rigid motion, intrinsics without positive focal lengths.

    It reads values back, and is for loaders of data, not for the renderer.

    **Raises:** UserError, which names signal and view.
    """
    require_views(camera, len(camera.camera_to_world), camera_to_world=(4, 4), intrinsics=(3, 3))
    pose, k = camera.camera_to_world.double(), camera.intrinsics.double()
    rotation = pose[..., :3, :3]
    skew = (rotation @ rotation.mT - torch.eye(3).to(pose)).abs().amax((-1, -2))
    last = (pose[..., 3, :] - pose.new_tensor([0, 0, 0, 1])).abs().amax(-1)
    lower = torch.stack([k[..., 1, 0], k[..., 2, 0], k[..., 2, 1], k[..., 2, 2] - 1], -1).abs().amax(-1)
    problems = {
        "camera_to_world or intrinsics are not finite": ~(pose.sum((-1, -2)) + k.sum((-1, -2))).isfinite(),
        "the last row of camera_to_world is not (0, 0, 0, 1)": ~(last <= tolerance),
        "the rotation is not orthonormal: is there a scale in it?": ~(skew <= tolerance),
        "the rotation is a mirror image (determinant -1): one axis too many or too few was turned": torch.linalg.det(
            rotation.nan_to_num()
        )
        < 0,
        "K is not [[fx, s, cx], [0, fy, cy], [0, 0, 1]]: is it transposed?": ~(lower <= tolerance),
        "the focal lengths are not positive": (k[..., 0, 0] <= 0) | (k[..., 1, 1] <= 0),
        "the focal length is below 2 pixels: are the intrinsics normalised?": k[..., 0, 0].abs() < 2,
    }
    for problem, wrong in problems.items():
        if wrong.any():
            signal, view = (int(number) for number in wrong.nonzero()[0])
            raise UserError(f"camera {view} of signal {signal} ({int(wrong.sum())} of {wrong.numel()}): {problem}")


def _at_unit_depth(camera: Camera, pixels: Tensor) -> Float[Tensor, "batch views *shape 3"]:
    """`K⁻¹ (x, y, 1)`; `K` is upper triangular, so that there is nothing to factorise."""
    k = _per_view(camera.intrinsics.flatten(2), pixels.dim())
    y = (pixels[..., 1] - k[..., 5]) / k[..., 4]
    x = (pixels[..., 0] - k[..., 2] - k[..., 1] * y) / k[..., 0]
    return torch.stack([x, y, torch.ones_like(x)], -1)


def _rotate(camera: Camera, local: Tensor) -> Tensor:
    """Directions of the camera's frame in the world's."""
    return torch.einsum("bvij,bv...j->bv...i", camera.camera_to_world[..., :3, :3], local)


def _per_view(values: Float[Tensor, "batch views c"], dim: int) -> Tensor:
    """Dimensions of size one between the views and the last."""
    return values.reshape(*values.shape[:2], *(1,) * (dim - 3), values.shape[-1])
