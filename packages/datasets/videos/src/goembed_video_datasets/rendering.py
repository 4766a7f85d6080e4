"""Procedural frames: every object is looked up where it was before it moved, so that sub-pixel motion is exact."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from goembed_video_datasets.scenes import Scene, cosine_and_sine

PIVOT_COLOUR = -0.9


class Appearance(NamedTuple):
    """What a scene is painted with, in [-1, 1]."""

    background: Float[Tensor, "batch 3 height width"]
    textures: Float[Tensor, "batch objects 3 side side"]


class Coordinates(NamedTuple):
    """Every pixel as seen from an object's anchor, as the object was turned at time 0."""

    x: Float[Tensor, "batch views height width"]
    y: Float[Tensor, "batch views height width"]


def paint(
    scene: Scene,
    appearance: Appearance,
    signs: Float[Tensor, "batch objects"],
    time: Float[Tensor, "batch views"],
) -> Float[Tensor, "batch views 3 height width"]:
    """The frames at some times: objects over the background, the first one in front.

    **Arguments:**
    - `signs`: which way each object goes; they have no effect at time 0.
    """
    height, width = appearance.background.shape[2:]
    frames = appearance.background[:, None].expand(-1, time.shape[1], -1, -1, -1)
    for k in reversed(range(signs.shape[1])):
        at = coordinates(scene, k, signs, time, height, width)
        frames = torch.lerp(
            frames, look_up(scene, k, appearance.textures[:, k], at), coverage(scene, k, at)[:, :, None]
        )
    disc = pivot_coverage(scene, height, width)[:, None, None]
    return torch.lerp(frames, frames.new_tensor(PIVOT_COLOUR), disc)


def coordinates(
    scene: Scene,
    k: int,
    signs: Float[Tensor, "batch objects"],
    time: Float[Tensor, "batch views"],
    height: int,
    width: int,
) -> Coordinates:
    """The pixels of each frame in the coordinates of object `k`."""
    anchor = scene.anchor[:, k]
    moved = (scene.shift[:, k] * signs[:, k])[:, None] * time
    angle = (scene.turn[:, k] * signs[:, k])[:, None] * time
    cosine, sine = cosine_and_sine(angle)
    columns, rows = pixels(anchor, height, width)
    x = (columns - anchor[:, :1])[:, None] - moved[..., None]  # (B, V, W)
    y = (rows - anchor[:, 1:])[:, None]
    back = (cosine[..., None] * x, sine[..., None] * x, cosine[..., None] * y, sine[..., None] * y)
    return Coordinates(back[0][:, :, None] + back[3][..., None], back[2][..., None] - back[1][:, :, None])


def coverage(scene: Scene, k: int, at: Coordinates) -> Float[Tensor, "batch views height width"]:
    """How much of each pixel object `k` and its rod cover, in [0, 1]: antialiased over a pixel's width."""

    def spread(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    arm = scene.arm[:, k]
    x, y = at.x - spread(arm[:, 0]), at.y - spread(arm[:, 1])
    distance = (x * x + y * y).sqrt_()
    scale = distance.clamp_min(1e-6).reciprocal_()
    c1, s1 = x * scale, y * scale  # of the angle about the middle, and of its multiples
    c, s = c1, s1
    outline = torch.ones_like(x)
    for harmonic in scene.outline[:, k].unbind(1):
        cosine_part, sine_part = harmonic.unbind(1)
        c, s = c * c1 - s * s1, s * c1 + c * s1
        outline.addcmul_(c, spread(cosine_part)).addcmul_(s, spread(sine_part))
    covered = (outline.mul_(spread(scene.radius[:, k])).sub_(distance)).add_(0.5)
    if (scene.rod[:, k] > 0).any():
        along = (at.x * spread(arm[:, 0]) + at.y * spread(arm[:, 1])) / spread(arm.square().sum(1).clamp_min(1e-6))
        along = along.clamp_(0, 1)
        x, y = at.x - along * spread(arm[:, 0]), at.y - along * spread(arm[:, 1])
        covered = torch.maximum(covered, spread(scene.rod[:, k]) + 0.5 - (x * x + y * y).sqrt())
    return covered.clamp_(0, 1)


def look_up(
    scene: Scene, k: int, texture: Float[Tensor, "batch 3 side side"], at: Coordinates
) -> Float[Tensor, "batch views 3 height width"]:
    """The texture of object `k`, bilinear between its pixels and continued beyond its border."""
    batch, views, height, width = at.x.shape
    half = (texture.shape[-1] - 1) / 2
    arm = scene.arm[:, k, :, None, None, None] / half
    grid = torch.stack([at.x / half - arm[:, 0], at.y / half - arm[:, 1]], 4).flatten(1, 2)
    found = F.grid_sample(texture, grid, padding_mode="border", align_corners=True)
    return found.view(batch, 3, views, height, width).transpose(1, 2)


def pivot_coverage(scene: Scene, height: int, width: int) -> Float[Tensor, "batch height width"]:
    """How much of each pixel the pivot's disc covers."""
    columns, rows = pixels(scene.pivot, height, width)
    x, y = columns - scene.anchor[:, 0, :1], rows - scene.anchor[:, 0, 1:]
    distance = (x.square()[:, None] + y.square()[:, :, None]).sqrt()
    return (scene.pivot[:, None, None] + 0.5 - distance).clamp(0, 1)


def visible(scene: Scene, size: int) -> Bool[Tensor, "batch objects height width"]:
    """Which pixels show which object at time 0: those that are covered by half or more, and by nothing in front."""
    objects = scene.radius.shape[1]
    still = scene.radius.new_zeros(len(scene.radius), objects)
    start = still[:, :1]
    free = pivot_coverage(scene, size, size) < 0.5
    shown = []
    for k in range(objects):
        covered = coverage(scene, k, coordinates(scene, k, still, start, size, size))[:, 0] >= 0.5
        shown.append(covered & free)
        free = free & ~covered
    return torch.stack(shown, 1)


def flow(
    scene: Scene, shown: Bool[Tensor, "batch objects height width"], signs: Float[Tensor, "batch objects"]
) -> Float[Tensor, "batch 2 height width"]:
    """Where every pixel of time 0 is at time 1, in pixels (x, y): exactly 0 where nothing moves."""
    height, width = shown.shape[2:]
    total = scene.radius.new_zeros(len(shown), 2, height, width)
    for k in range(signs.shape[1]):
        columns, rows = pixels(scene.pivot, height, width)
        x, y = (columns - scene.anchor[:, k, :1])[:, None], (rows - scene.anchor[:, k, 1:])[:, :, None]
        cosine, sine = (v[:, None, None] for v in cosine_and_sine(scene.turn[:, k] * signs[:, k]))
        shift = (scene.shift[:, k] * signs[:, k])[:, None, None]
        moved = torch.stack([(cosine - 1) * x - sine * y + shift, sine * x + (cosine - 1) * y], 1)
        total += moved * shown[:, k, None]
    return total


def pixels(like: Tensor, height: int, width: int) -> tuple[Float[Tensor, "1 width"], Float[Tensor, "1 height"]]:
    """The columns and rows of a picture, as numbers."""
    return tuple(torch.arange(n, device=like.device, dtype=like.dtype)[None] for n in (width, height))
