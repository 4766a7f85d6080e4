"""The cameras of others, turned into ours and back: OpenGL and NeRF, LLFF, PyTorch3D and CO3D, RealEstate10k.

| of others | pose | axes of the camera | intrinsics |
|---|---|---|---|
| OpenGL, NeRF-synthetic, instant-ngp | camera to world | x right, y up, z backwards | field of view, or pixels |
| LLFF | camera to world | x down, y right, z backwards | focal length in pixels, centre of the image |
| PyTorch3D, CO3D | world to camera, of row vectors | x left, y up, z forward | NDC, x to the left and y up |
| RealEstate10k | world to camera | ours: x right, y down, z forward | fractions of width and height |

The principal point of each is meant from the image's corner, so that the centre of an image is `(width/2, height/2)`.
Image sizes are those of the very images that are used: of downscaled images, not of the originals.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from goembed_core.errors import UserError
from jaxtyping import Float
from torch import Tensor

from goembed_nerf_renderer.cameras.geometry import Camera, homogeneous, inverse_pose, make_intrinsics

NdcFormat = Literal["ndc_isotropic", "ndc_norm_image_bounds"]


class PyTorch3DCamera(NamedTuple):
    """`x_camera = x_world R + T` of row vectors; focal length and principal point in NDC, `(x, y)`."""

    rotation: Float[Tensor, "*n 3 3"]
    translation: Float[Tensor, "*n 3"]
    focal_length: Float[Tensor, "*n 2"]
    principal_point: Float[Tensor, "*n 2"]


class RealEstateCamera(NamedTuple):
    """A line of a RealEstate10k file: fractions of width and height, and world to camera."""

    intrinsics: Float[Tensor, "*n 4"]  # fx, fy, cx, cy
    world_to_camera: Float[Tensor, "*n 3 4"]


def from_opengl(
    camera_to_world: Float[Tensor, "*n 4 4"],
    camera_angle_x: float | Float[Tensor, "*n"],
    width: int,
    height: int,
) -> Camera:
    """NeRF-synthetic's `transforms.json`: `f = width / (2 tan(angle / 2))`, y and z turned round.

    **Arguments:**
    - `camera_to_world`: `transform_matrix` of each frame.
    - `camera_angle_x`: the horizontal field of view, in radians.
    """
    angle = torch.as_tensor(camera_angle_x, dtype=camera_to_world.dtype, device=camera_to_world.device)
    focal = (0.5 * width / torch.tan(0.5 * angle)).expand(camera_to_world.shape[:-2])
    centre_x, centre_y = (torch.full_like(focal, 0.5 * side) for side in (width, height))
    pose = camera_to_world * _signs(camera_to_world, 1, -1, -1, 1)
    return Camera(pose, make_intrinsics(focal, focal, centre_x, centre_y))


def to_opengl(camera: Camera, width: int) -> tuple[Float[Tensor, "*n 4 4"], Float[Tensor, "*n"]]:
    """Poses with y up and z backwards, and the horizontal field of view in radians; the reverse of `from_opengl`."""
    angle = 2 * torch.atan(0.5 * width / camera.intrinsics[..., 0, 0])
    return camera.camera_to_world * _signs(camera.camera_to_world, 1, -1, -1, 1), angle


def from_llff(poses_bounds: Float[Tensor, "*n 17"], width: int, height: int) -> tuple[Camera, Float[Tensor, "*n 2"]]:
    """The rows of LLFF's `poses_bounds.npy`: cameras, and the nearest and farthest depth of each.

    A row is `[R | t | (height, width, focal)]` of 3 x 5, with the axes down, right and backwards, and the bounds.  The
    file has the size of the original images; the focal length is scaled to `width` and `height`.

    **Raises:** UserError for rows of another length.
    """
    if poses_bounds.shape[-1] != 17:
        raise UserError(f"poses_bounds of shape {tuple(poses_bounds.shape)}: expected (views, 17)")
    matrix = poses_bounds[..., :15].unflatten(-1, (3, 5))
    down, right, backwards, translation, (rows, columns, focal) = (
        *matrix[..., :4].unbind(-1),
        matrix[..., 4].unbind(-1),
    )
    pose = homogeneous(torch.stack([right, down, -backwards], -1), translation)
    centre_x, centre_y = (torch.full_like(focal, 0.5 * side) for side in (width, height))
    intrinsics = make_intrinsics(focal * width / columns, focal * height / rows, centre_x, centre_y)
    return Camera(pose, intrinsics), poses_bounds[..., 15:]


def to_llff(camera: Camera, bounds: Float[Tensor, "*n 2"], width: int, height: int) -> Float[Tensor, "*n 17"]:
    """Rows of `poses_bounds.npy`; of the intrinsics they hold the horizontal focal length alone."""
    right, down, forward = camera.camera_to_world[..., :3, :3].unbind(-1)
    focal = camera.intrinsics[..., 0, 0]
    size = torch.stack([torch.full_like(focal, float(height)), torch.full_like(focal, float(width)), focal], -1)
    matrix = torch.stack([down, right, -forward, camera.camera_to_world[..., :3, 3], size], -1)
    return torch.cat([matrix.flatten(-2), bounds], -1)


def from_pytorch3d(camera: PyTorch3DCamera, width: int, height: int, ndc: NdcFormat = "ndc_isotropic") -> Camera:
    """PyTorch3D's and CO3D's cameras: `x_screen = width / 2 − s x_ndc`, and the same of y and the height.

    **Arguments:**
    - `ndc`: `ndc_isotropic` has `s = min(width, height) / 2` (PyTorch3D, and CO3D's second version),
      `ndc_norm_image_bounds` half of each side (CO3D's first).  An annotation's `intrinsics_format` says which.
    """
    half = _half_sides(camera.focal_length, width, height)
    scale = _ndc_scale(half, ndc)
    focal = camera.focal_length * scale
    centre = half - camera.principal_point * scale
    turned = _signs(camera.rotation, -1, -1, 1)
    world_to_camera = homogeneous(camera.rotation.mT * turned[:, None], camera.translation * turned)
    intrinsics = make_intrinsics(focal[..., 0], focal[..., 1], centre[..., 0], centre[..., 1])
    return Camera(inverse_pose(world_to_camera), intrinsics)


def to_pytorch3d(camera: Camera, width: int, height: int, ndc: NdcFormat = "ndc_isotropic") -> PyTorch3DCamera:
    """The reverse of `from_pytorch3d`; a skew is left out."""
    world_to_camera = inverse_pose(camera.camera_to_world)
    turned = _signs(world_to_camera, -1, -1, 1)
    k = camera.intrinsics
    half = _half_sides(k, width, height)
    scale = _ndc_scale(half, ndc)
    return PyTorch3DCamera(
        (world_to_camera[..., :3, :3] * turned[:, None]).mT,
        world_to_camera[..., :3, 3] * turned,
        torch.stack([k[..., 0, 0], k[..., 1, 1]], -1) / scale,
        (half - k[..., :2, 2]) / scale,
    )


def from_realestate10k(camera: RealEstateCamera, width: int, height: int) -> Camera:
    """RealEstate10k's cameras: `fx` and `cx` are fractions of the width, `fy` and `cy` of the height."""
    fx, fy, cx, cy = camera.intrinsics.unbind(-1)
    pose = inverse_pose(homogeneous(camera.world_to_camera[..., :3], camera.world_to_camera[..., 3]))
    return Camera(pose, make_intrinsics(fx * width, fy * height, cx * width, cy * height))


def to_realestate10k(camera: Camera, width: int, height: int) -> RealEstateCamera:
    """The reverse of `from_realestate10k`; a skew is left out."""
    k = camera.intrinsics
    fractions = [k[..., 0, 0] / width, k[..., 1, 1] / height, k[..., 0, 2] / width, k[..., 1, 2] / height]
    return RealEstateCamera(torch.stack(fractions, -1), inverse_pose(camera.camera_to_world)[..., :3, :])


def _signs(like: Tensor, *signs: int) -> Tensor:
    return torch.tensor(signs).to(like)


def _half_sides(like: Tensor, width: int, height: int) -> Float[Tensor, " 2"]:
    return torch.tensor([0.5 * width, 0.5 * height]).to(like)


def _ndc_scale(half: Float[Tensor, " 2"], ndc: str) -> Float[Tensor, " 2"]:
    """How many pixels one unit of NDC has, along x and y."""
    if ndc == "ndc_isotropic":
        return half.amin().expand(2)
    if ndc == "ndc_norm_image_bounds":
        return half
    raise UserError(f"ndc={ndc!r}: expected 'ndc_isotropic' or 'ndc_norm_image_bounds'")
