"""A ride around the scene: once round it, or for views from one side on an ellipse among them; as MP4 and GIF."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import torch
from goembed_core.progress import ProgressLine
from goembed_nerf_renderer.cameras import Camera, look_at, resize_camera
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from goembed_fit_scene.model import Model

FRAMES_PER_SECOND = 20


def middle(model: Model) -> Float[Tensor, " 3"]:
    """What the ride looks at: the middle of the box, or twice as far as the nearest that a perspective holds."""
    box = model.field.box
    if box.frame is None:
        return 0.5 * (box.low + box.high).cpu()
    pose = model.views.camera_to_world.cpu()
    nearest = -1 / box.low[2].item()
    return pose[:, :3, 3].mean(0) + 2 * nearest * F.normalize(pose[:, :3, 2].mean(0), dim=0)


def ride(model: Model, count: int) -> Camera:
    """Cameras of a ride, leaves `(count, ...)`, with the mean intrinsics of the views."""
    views = Camera(*(leaf.cpu() for leaf in model.views))
    pose = views.camera_to_world
    eyes, up = pose[:, :3, 3], F.normalize(-pose[:, :3, 1].mean(0), dim=0)
    turn, centre = 2 * math.pi * torch.arange(count) / count, middle(model)
    if model.field.box.frame is None:
        away = eyes - centre
        height = (away @ up).mean()
        radius = (away - (away @ up)[:, None] * up).norm(dim=1).mean()
        first = F.normalize(torch.linalg.cross(up, pose[0, :3, 0]), dim=0)
        second = torch.linalg.cross(up, first)
        around = turn.cos()[:, None] * first + turn.sin()[:, None] * second
        places = centre + height * up + radius * around
    else:
        forward = F.normalize(pose[:, :3, 2].mean(0), dim=0)
        right = F.normalize(torch.linalg.cross(forward, up), dim=0)
        spread = [((eyes - eyes.mean(0)) @ axis).std() for axis in (right, up)]
        places = eyes.mean(0) + turn.cos()[:, None] * spread[0] * right + turn.sin()[:, None] * spread[1] * up
    return Camera(look_at(places, centre, up), views.intrinsics.mean(0).expand(count, 3, 3))


def turntable(model: Model, count: int, scale: float) -> UInt8[Tensor, "frames height width 3"]:
    """Colour and, to the right of it, depth (near is bright) along the ride.

    **Arguments:**
    - `scale`: size of the frames in that of the views; sides are made even, as MP4 wants them.
    """
    size = model.facts["size"]
    width, height = (2 * max(1, round(side * scale / 2)) for side in size)
    camera = resize_camera(ride(model, count), width / size[0], height / size[1])
    device, frames, distances = model.field.box.low.device, [], []
    with ProgressLine("turntable", count, unit="frames") as line:
        for number, (pose, intrinsics) in enumerate(zip(*camera, strict=True), 1):
            seen = model.view(Camera(pose.to(device), intrinsics.to(device)), height, width)
            frames.append(seen.colour[0, 0].clamp(0, 1).cpu())
            opacity = seen.opacity[0, 0].cpu()
            distances.append(torch.where(opacity > 0.5, seen.depth[0, 0].cpu() / opacity.clamp(min=0.5), torch.nan))
            line.advance_to(number, "")
    near = 1 / torch.stack(distances)
    known = near[near.isfinite()]
    low, high = (known.quantile(q).item() for q in (0.02, 0.98)) if 0 < len(known) < 2**24 else (0.0, 1.0)
    bright = ((near - low) / max(high - low, 1e-9) * 0.9 + 0.1).clamp(0, 1).nan_to_num(0.0)
    both = torch.cat([torch.stack(frames), bright[:, None].expand(-1, 3, -1, -1)], 3)
    return (both * 255).round().to(torch.uint8).movedim(1, -1).contiguous()


def write_videos(frames: UInt8[Tensor, "frames height width 3"], folder: Path) -> None:
    """Write `turntable.mp4` (H.264) and `turntable.gif`."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "turntable.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
        container.mux(stream.encode(None))
    pictures = [Image.fromarray(frame.numpy()).convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    pictures[0].save(
        folder / "turntable.gif",
        save_all=True,
        append_images=pictures[1:],
        duration=1000 // FRAMES_PER_SECOND,
        loop=0,
    )
