"""Procedural scenes whose hidden side is random by construction: the context says nothing of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.cameras import Camera, camera_rays, look_at, make_intrinsics, whole_image
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from goembed_multiview_datasets.config import BoxesConfig
from goembed_multiview_datasets.scenes import PosedImages, require_indices
from goembed_multiview_datasets.slabs import NOTHING, Boxes, first_faces

PALETTE = ((0.90, 0.20, 0.15), (0.15, 0.35, 0.90))  # what a hidden face may have: red (0), or blue (1)
BACK = 0  # the face that is hidden: that of the box's negative x
CHUNK_RAYS = 2**16  # at a time: what a processor's cache holds
DISTANCE = 4.0  # of cameras from the middle
EXTENT = 1.1  # nothing is farther from the middle
FIELD_OF_VIEW = 2 * math.atan(EXTENT / DISTANCE) * 1.06  # the sphere of that radius, and a little
CONTEXT_AZIMUTH = 0.8  # how far the context is off the fronts of the boxes, at most, in radians


class BoxTruth(NamedTuple):
    """What is true of some scenes, for evaluation alone."""

    colour: Int[Tensor, "batch boxes"]  # which one of `PALETTE` each hidden face has
    mask: Bool[Tensor, "batch views boxes height width"]  # where each hidden face is seen; never in the context


class _Scenes(NamedTuple):
    """Some scenes, before their hidden faces have a colour."""

    boxes: Boxes
    colours: Float[Tensor, "batch boxes 6 3"]
    camera: Camera
    hidden: Int[Tensor, "batch boxes"]


class BoxDataset(Dataset[PosedImages]):
    """Boxes with faces of one colour each; that of the face turned away from the context is one of two.

    Which one is drawn in a random stream of its own: the context is the same to the last bit whichever it is.  The
    other views stand all around.  Everything is made where the indices are, for a whole batch at once; a pixel has the
    colour of what the ray through its centre meets first.
    """

    def __init__(self, config: BoxesConfig):
        self.config = config

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> PosedImages:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of a set of {len(self)}")
        scenes = self._scenes(torch.tensor([index % len(self)]))
        images, alpha, _ = self._render(scenes, scenes.hidden)
        near_far = images.new_tensor([DISTANCE - EXTENT, DISTANCE + EXTENT]).repeat(self.config.views, 1)
        return PosedImages(images[0], alpha[0], Camera(*(leaf[0].clone() for leaf in scenes.camera)), near_far)

    def observations(self, indices: Int[Tensor, " n"]) -> Observations:
        """The views of some scenes, values `(B, V, 3, H, W)` in [0, 1], and their pixels in `φ` (PosedPixels)."""
        scenes = self._scenes(indices)
        images, _, _ = self._render(scenes, scenes.hidden)
        return Observations(images, whole_image(scenes.camera, self.config.size, self.config.size))

    def truth(self, indices: Int[Tensor, " n"]) -> BoxTruth:
        """What their hidden faces have, and where these are seen; for evaluation alone."""
        scenes = self._scenes(indices)
        _, _, mask = self._render(scenes, scenes.hidden)
        return BoxTruth(scenes.hidden, mask)

    def render(
        self, indices: Int[Tensor, " n"], colour: Int[Tensor, "n boxes"]
    ) -> Float[Tensor, "n views 3 height width"]:
        """The views of some scenes if their hidden faces had other colours of `PALETTE`; for evaluation alone."""
        images, _, _ = self._render(self._scenes(indices), colour)
        return images

    def _scenes(self, indices: Int[Tensor, " n"]) -> _Scenes:
        items = require_indices(indices, len(self))
        random = ItemRandom(self.config.seed, items, f"boxes/{self.config.split}", indices.device)
        count = self.config.boxes
        turn = random.rand(1) * 2 * math.pi  # of the whole scene about z
        slot = turn + torch.arange(count, device=indices.device) * (2 * math.pi / count) + random.rand(1) * 2 * math.pi
        ring = 0.0 if count == 1 else 0.65
        centre = ring * torch.stack([slot.cos(), slot.sin(), torch.zeros_like(slot)], -1)
        half = (0.35 + 0.25 * random.rand(count, 3)) * (1.0 if count == 1 else 0.5)
        front = turn + (random.rand(count) - 0.5) * 0.6  # fronts look about the same way
        colours = 0.25 + 0.6 * random.stream("faces").rand(count, 6, 3)
        hidden = random.stream("hidden").randint(0, len(PALETTE), count)
        return _Scenes(Boxes(centre, half, front), colours, self._cameras(random.stream("cameras"), turn), hidden)

    def _cameras(self, random: ItemRandom, turn: Float[Tensor, "n 1"]) -> Camera:
        """The context before the fronts, the others evenly around from there, about as much as `jitter_rad` allows."""
        views, size = self.config.views, self.config.size
        context = turn + (2 * random.rand(1) - 1) * CONTEXT_AZIMUTH
        even = torch.arange(views, device=turn.device) * (2 * math.pi / views)
        jitter = (2 * random.rand(views) - 1) * self.config.jitter_rad * (even > 0)
        azimuth, elevation = context + even + jitter, 0.2 + 0.5 * random.rand(views)
        flat = elevation.cos()
        position = DISTANCE * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], -1)
        up = position.new_tensor([0.0, 0.0, 1.0])
        focal = torch.full_like(azimuth, 0.5 * size / math.tan(0.5 * FIELD_OF_VIEW))
        middle = torch.full_like(azimuth, 0.5 * size)
        return Camera(look_at(position, torch.zeros_like(position), up), make_intrinsics(focal, focal, middle, middle))

    def _render(
        self, scenes: _Scenes, hidden: Int[Tensor, "n boxes"]
    ) -> tuple[
        Float[Tensor, "n views 3 height width"],
        Float[Tensor, "n views 1 height width"],
        Bool[Tensor, "n views boxes height width"],
    ]:
        """Images, opacity, and where each hidden face is seen."""
        size, views = self.config.size, self.config.views
        palette = scenes.colours.new_tensor(PALETTE)
        colours = torch.cat([palette[hidden][:, :, None], scenes.colours[:, :, 1:]], 2).flatten(1, 2)
        background = torch.full_like(colours[:, :1], float(self.config.background == "white"))
        colours = torch.cat([background, colours], 1).mT.contiguous()  # that of `NOTHING` comes first
        pixels = whole_image(scenes.camera, size, size).pixels
        face = torch.empty(*pixels.shape[:-1], dtype=torch.int64, device=pixels.device)
        images = torch.empty(len(hidden), views, 3, size, size, device=pixels.device)
        chunk = max(1, CHUNK_RAYS // (views * size * size))
        for first in range(0, len(hidden), chunk):
            part = slice(first, first + chunk)
            rays = camera_rays(Camera(*(leaf[part] for leaf in scenes.camera)), pixels[part])
            boxes = Boxes(*(leaf[part] for leaf in scenes.boxes))
            found = first_faces(boxes, rays.origins[:, :, 0, 0], rays.directions.flatten(2, 3))
            face[part] = found.unflatten(-1, (size, size))
            index = (found + 1).flatten(1)[:, None].expand(-1, 3, -1)
            images[part] = colours[part].gather(2, index).unflatten(-1, (views, size, size)).transpose(1, 2)
        box = torch.arange(self.config.boxes, device=face.device)[:, None, None]
        return images, (face != NOTHING).to(images.dtype)[:, :, None], face[:, :, None] == 6 * box + BACK
