"""Do cameras and pictures agree?  How well a view is found again in others, under these cameras and likely mistakes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from goembed_nerf_renderer.cameras import Camera, camera_rays, project, resize_camera, whole_image
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from goembed_multiview_datasets.pictures import resize_area
from goembed_multiview_datasets.scenes import PosedImages

SIDE = 64  # of the images that are compared, at most
DEPTHS = 48
UNSEEN = 0.5  # the error of what lies outside of the other image

Pose = Float[Tensor, "views 4 4"]


def _turned(*signs: float) -> Callable[[Pose], Pose]:
    return lambda pose: pose * torch.tensor([*signs, 1.0]).to(pose)


def _llff(pose: Pose) -> Pose:
    return torch.stack([pose[..., 1], pose[..., 0], -pose[..., 2], pose[..., 3]], -1)


# What is easily got wrong; each leaves a camera that nothing else would refuse.
MISTAKES: dict[str, Callable[[Pose], Pose]] = {
    "y and z turned round (OpenGL's axes taken for OpenCV's, or the reverse)": _turned(1, -1, -1),
    "x and y turned round (PyTorch3D's axes taken for OpenCV's, or the reverse)": _turned(-1, -1, 1),
    "x and z turned round": _turned(-1, 1, -1),
    "x and y exchanged, z turned round (LLFF's axes)": _llff,
    "inverted (world to camera taken for camera to world, or the reverse)": torch.linalg.inv,
}


def small(scene: PosedImages) -> PosedImages:
    """A scene at no more than `SIDE` pixels."""
    height, width = scene.images.shape[-2:]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    camera = resize_camera(scene.camera, size[0] / width, size[1] / height)
    images, alpha = (resize_area(leaf, size) for leaf in (scene.images, scene.alpha))
    return PosedImages(images, alpha, camera, scene.near_far)


def nearest_views(pose: Pose, view: int, count: int) -> list[int]:
    """The other views that look most alike: by direction, then by place."""
    along = 1 - pose[:, :3, 2] @ pose[view, :3, 2]
    apart = (pose[:, :3, 3] - pose[view, :3, 3]).norm(dim=-1)
    order = (along + 0.1 * apart / apart.max().clamp_min(1e-12)).argsort(stable=True).tolist()
    return [other for other in order if other != view][:count]


def along_ray(
    camera: Camera, view: int, pixels: Float[Tensor, "n 2"], near_far: Float[Tensor, " 2"], steps: int
) -> Float[Tensor, "n steps 3"]:
    """Points of the rays through some pixels of a view, evenly spaced in one over the distance from near to far."""
    one = Camera(*(leaf[None, view : view + 1] for leaf in camera))
    rays = camera_rays(one, pixels[None, None])
    distance = 1 / torch.linspace(1 / near_far[0], 1 / near_far[1], steps)
    return rays.origins[0, 0, :, None] + distance[:, None] * rays.directions[0, 0, :, None]


def look_up(
    images: Float[Tensor, "views c height width"], pixels: Float[Tensor, "views n 2"]
) -> tuple[Float[Tensor, "views c n"], Bool[Tensor, "views n"]]:
    """Images at places in pixels, and whether these lie within them."""
    size = torch.tensor([images.shape[3], images.shape[2]])
    inside = ((pixels >= 0) & (pixels <= size)).all(-1)
    grid = (2 * pixels / size - 1).clamp(-2, 2)[:, None]
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)[:, :, 0], inside


def sweep_error(scene: PosedImages, view: int, others: list[int], pose: Pose) -> float:
    """How unlike a view's textured pixels are to the others' at the best of many depths; median of absolute errors.

    **Arguments:**
    - `pose`: camera to world of all views, in place of the scene's own.
    """
    camera = Camera(pose, scene.camera.intrinsics)
    textured = _texture(scene, view).flatten()
    pixels = whole_image(Camera(*(leaf[None, :1] for leaf in camera)), *scene.images.shape[-2:]).pixels
    chosen = textured >= textured[textured > 0].quantile(0.5) if (textured > 0).any() else textured >= 0
    points = along_ray(camera, view, pixels[0, 0].flatten(0, 1)[chosen], scene.near_far[view], DEPTHS)
    count = len(points)
    found, depth = project(Camera(*(leaf[None, others] for leaf in camera)), points.flatten(0, 1)[None])
    colour, inside = look_up(scene.images[others], found[0])
    expected = scene.images[view].flatten(1)[:, chosen].repeat_interleave(DEPTHS, 1)
    error = (colour - expected).abs().mean(1)
    error = torch.where(inside & (depth[0] > 0), error, UNSEEN).mean(0)
    return float(error.reshape(count, DEPTHS).amin(1).median())


def strong_corners(scene: PosedImages, view: int, count: int) -> Int[Tensor, "n 2"]:
    """Pixels `(x, y)` of much texture, one of each cell of a grid; the best first."""
    texture = _texture(scene, view)
    height, width = texture.shape
    rows, columns = max(1, height // 4), max(1, width // 4)
    best, place = F.max_pool2d(texture[None], (rows, columns), return_indices=True)
    order = best.flatten().argsort(descending=True)[:count]
    chosen = place.flatten()[order]
    return torch.stack([chosen % width, chosen // width], -1)


def _texture(scene: PosedImages, view: int) -> Float[Tensor, "height width"]:
    """The smaller of the changes along x and y about each pixel: corners have both."""
    grey = scene.images[view].mean(0)
    gx, gy = (torch.zeros_like(grey) for _ in range(2))
    gx[:, 1:-1], gy[1:-1] = grey[:, 2:] - grey[:, :-2], grey[2:] - grey[:-2]
    xx, yy, xy = (F.avg_pool2d(part[None], 3, 1, 1)[0] for part in (gx * gx, gy * gy, gx * gy))
    half = 0.5 * (xx + yy)
    return (half - (half.square() - xx * yy + xy * xy).clamp_min(0).sqrt()).clamp_min(0)
