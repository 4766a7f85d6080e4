"""A ride once round a scene, as frames of colour and nearness, MP4 and GIF."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from goembed_core.report.figures import to_uint8
from goembed_nerf_renderer.cameras import Camera, PosedPixels, look_at, resize_camera, whole_image
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from goembed_inverse_graphics.solve import Solver


def around(params: PosedPixels, centre: Float[Tensor, " 3"], count: int, turn: float = 1.0) -> Camera:
    """Cameras `(B, count, ...)` on a circle about the world's z, which begins at each item's first view.

    **Arguments:**
    - `centre`: what they look at.
    - `turn`: the part of the circle that they go, at even steps; the first is the first view itself but for its roll.
    """
    camera = params.camera
    away = camera.camera_to_world[:, 0, :3, 3] - centre
    radius, first = away[:, :2].norm(dim=1), torch.atan2(away[:, 1], away[:, 0])
    angle = first[:, None] + 2 * math.pi * turn * torch.arange(count, device=away.device) / count
    flat = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)
    places = torch.cat([flat, away[:, None, 2:].expand(-1, count, 1)], -1) + centre
    up = places.new_tensor([0.0, 0.0, 1.0])
    pose = look_at(places, centre.expand_as(places), up)
    return Camera(pose, camera.intrinsics[:, :1].expand(-1, count, 3, 3))


@torch.no_grad()
def frames(
    solver: Solver, scenes, cameras: Camera, size: tuple[int, int], scale: float
) -> Float[Tensor, "n frames 3 h w"]:
    """Colour and, to the right of it, nearness (white is near) of every scene from every camera, in [-1, 1]."""
    height, width = (max(2, 2 * round(side * scale / 2)) for side in size)
    larger = resize_camera(cameras, width / size[1], height / size[0])
    shots = []
    for number in range(cameras.intrinsics.shape[1]):
        one = Camera(*(leaf[:, number : number + 1] for leaf in larger))
        seen = solver.look(scenes, whole_image(one, height, width))
        config = solver.model.forward_model.renderer.config
        distance = seen.depth.float() / seen.opacity.float().clamp(min=1e-3)
        near = ((config.far - distance) / (config.far - config.near)).clamp(0, 1) * seen.opacity.float()
        shots.append(torch.cat([2 * seen.colour.float() - 1, (2 * near - 1)[:, :, None].expand_as(seen.colour)], -1))
    return torch.cat(shots, 1)


def film(videos: Float[Tensor, "n frames 3 height width"], gap: int = 4) -> UInt8[np.ndarray, "frames height width 3"]:
    """Videos below each other."""
    tiles = F.pad(videos.cpu(), (0, gap, 0, gap), value=1.0)
    return np.concatenate(list(to_uint8(tiles)), 1)


def gif(pictures: UInt8[np.ndarray, "frames height width 3"], fps: int) -> bytes:
    """A looping GIF."""
    buffer, images = io.BytesIO(), [Image.fromarray(picture) for picture in pictures]
    images[0].save(buffer, "gif", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def write_mp4(path: Path, pictures: UInt8[np.ndarray, "frames height width 3"], fps: int) -> None:
    """Write H.264 in MP4, which every browser plays; an odd row or column is left out, as it cannot have them."""
    pictures = pictures[:, : pictures.shape[1] // 2 * 2, : pictures.shape[2] // 2 * 2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = pictures.shape[1], pictures.shape[2], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
