"""Cameras: one convention within the project, and what turns those of others into it.

A camera looks along z, with x to the right and y down (OpenCV); poses are camera to world; intrinsics are in pixels,
and pixel (0, 0) has its centre at (0.5, 0.5).
"""

from goembed_nerf_renderer.cameras.colmap import from_colmap, to_colmap
from goembed_nerf_renderer.cameras.conventions import (
    from_llff,
    from_opengl,
    from_pytorch3d,
    from_realestate10k,
    to_llff,
    to_opengl,
    to_pytorch3d,
    to_realestate10k,
)
from goembed_nerf_renderer.cameras.geometry import (
    Camera,
    CameraRays,
    camera_rays,
    crop_camera,
    frustum,
    look_at,
    make_intrinsics,
    project,
    require_cameras,
    resize_camera,
    unproject,
)
from goembed_nerf_renderer.cameras.pixels import (
    PosedPixels,
    channels_first,
    channels_last,
    patch,
    random_patch,
    random_pixels,
    split_pixels,
    whole_image,
)

__all__ = [
    "Camera",
    "CameraRays",
    "PosedPixels",
    "camera_rays",
    "channels_first",
    "channels_last",
    "crop_camera",
    "from_colmap",
    "from_llff",
    "from_opengl",
    "from_pytorch3d",
    "from_realestate10k",
    "frustum",
    "look_at",
    "make_intrinsics",
    "patch",
    "project",
    "random_patch",
    "random_pixels",
    "require_cameras",
    "resize_camera",
    "split_pixels",
    "to_colmap",
    "to_llff",
    "to_opengl",
    "to_pytorch3d",
    "to_realestate10k",
    "unproject",
    "whole_image",
]
