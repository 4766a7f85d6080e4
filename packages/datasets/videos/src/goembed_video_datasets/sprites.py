"""Procedural clips whose future is random by construction: the context says nothing of which one comes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from goembed_video_datasets import rendering, scenes
from goembed_video_datasets.clips import ClipTime, require_indices, single_index
from goembed_video_datasets.config import REACH, SpritesConfig
from goembed_video_datasets.textures import TextureBank, pictures_for

CHUNK_PIXELS = 2**18  # painted at once: what a processor's cache holds


class SpriteItem(NamedTuple):
    """A clip, and for evaluation alone what is true of it."""

    values: Float[Tensor, "views 3 height width"]
    params: ClipTime
    flow: Float[Tensor, "2 height width"]  # in pixels (x, y), from time 0 to time 1
    mask: Float[Tensor, "1 height width"]  # 1 where time 0 shows an object, else 0
    mode: int  # which of the futures came


class Truth(NamedTuple):
    """What is true of some clips."""

    flow: Float[Tensor, "batch 2 height width"]
    mask: Float[Tensor, "batch 1 height width"]
    mode: Int[Tensor, " batch"]


class Futures(NamedTuple):
    """Everything that could have followed one context, mode by mode; a mode of probability 0 repeats another."""

    flow: Float[Tensor, "batch modes 2 height width"]
    target: Float[Tensor, "batch modes 3 height width"]
    probability: Float[Tensor, "batch modes"]


class _Clips(NamedTuple):
    """Some clips, before they are painted."""

    random: ItemRandom
    kind: Int[Tensor, " n"]
    mode: Int[Tensor, " n"]
    scene: scenes.Scene


class SpriteDataset(Dataset[SpriteItem]):
    """Objects that go one way or another with equal probability, with exact flow.

    Everything is made where the indices are, for a whole batch at once.  `values` show the context (time 0), the
    target (time 1), then frames at times between.
    """

    def __init__(self, config: SpritesConfig):
        self.config = config
        self.kinds = scenes.KINDS if config.kind == "mixed" else (config.kind,)
        self.num_objects = max(scenes.OBJECTS[kind] for kind in self.kinds)
        self.num_modes = max(scenes.modes(kind) for kind in self.kinds)
        pictures, origin = pictures_for(config.textures, config.size)
        self.backgrounds = TextureBank(pictures, config.size, origin)
        self.surfaces = TextureBank(pictures, 2 * math.ceil(REACH * config.size) + 2, origin)
        signs = torch.zeros(len(self.kinds), self.num_modes, self.num_objects)
        for row, kind in enumerate(self.kinds):
            table = torch.tensor(scenes.SIGNS[kind])
            signs[row, :, : table.shape[1]] = table.repeat(self.num_modes // len(table), 1)
        self._signs = signs
        count = torch.tensor([[scenes.modes(kind)] for kind in self.kinds])
        self._probability = (torch.arange(self.num_modes) < count) / count  # (kinds, modes)

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> SpriteItem:
        chosen = single_index(index, len(self))
        (values, params), truth = self.observations(chosen), self.truth(chosen)
        return SpriteItem(values[0], ClipTime(params.time[0]), truth.flow[0], truth.mask[0], int(truth.mode))

    def observations(self, indices: Int[Tensor, " n"]) -> Observations:
        """The frames of some clips, `(B, V, 3, H, W)`, and their times; nothing of what is only for evaluation."""
        clips = self._draw(indices)
        times = self._times(clips.random)
        return Observations(self._paint(clips, self._appearance(clips.random), clips.mode, times), ClipTime(times))

    def truth(self, indices: Int[Tensor, " n"]) -> Truth:
        """The flow that came, what moved and which mode it was; for evaluation alone."""
        clips = self._draw(indices)
        shown = rendering.visible(clips.scene, self.config.size)
        flow = rendering.flow(clips.scene, shown, self._signs_of(clips, clips.mode))
        return Truth(flow, shown.any(1, keepdim=True).float(), clips.mode)

    def futures(self, indices: Int[Tensor, " n"]) -> Futures:
        """Flow and target of every mode of the same contexts; for evaluation alone."""
        clips = self._draw(indices)
        shown, appearance = rendering.visible(clips.scene, self.config.size), self._appearance(clips.random)
        end = torch.ones(len(indices), 1, device=indices.device)
        flows, targets = [], []
        for number in range(self.num_modes):
            mode = torch.full_like(clips.mode, number)
            flows.append(rendering.flow(clips.scene, shown, self._signs_of(clips, mode)))
            targets.append(self._paint(clips, appearance, mode, end)[:, 0])
        return Futures(torch.stack(flows, 1), torch.stack(targets, 1), self._probability.to(indices.device)[clips.kind])

    def frames(
        self, indices: Int[Tensor, " n"], mode: Int[Tensor, " n"], time: Float[Tensor, "n views"]
    ) -> Float[Tensor, "n views 3 height width"]:
        """The clips as they would be in given modes, at any times."""
        clips = self._draw(indices)
        return self._paint(clips, self._appearance(clips.random), mode, time)

    def _draw(self, indices: Int[Tensor, " n"]) -> _Clips:
        """Everything about some clips but their colours; each use of random numbers has a stream of its own."""
        items = require_indices(indices, len(self))
        random = ItemRandom(self.config.seed, items, f"sprites/{self.config.split}", indices.device)
        room = scenes.Room(self.config.size, self.config.step_px, self.config.jitter_px)
        kind = random.stream("kind").randint(0, len(self.kinds))
        drawn = [scenes.draw_scene(name, self.num_objects, room, random) for name in self.kinds]
        scene = drawn[0] if len(drawn) == 1 else scenes.select_scene(drawn, kind)
        mode = (random.stream("mode").rand() / self._probability.to(indices.device)[kind, 0]).long()
        return _Clips(random, kind, mode, scene)

    def _times(self, random: ItemRandom) -> Float[Tensor, "n views"]:
        """0, 1, and a random time in each of as many equal parts as there are other frames."""
        inner = self.config.frames - 2
        start, parts = torch.zeros(len(random), 1, device=random.device), torch.arange(inner, device=random.device)
        return torch.cat([start, start + 1, (parts + random.stream("time").rand(inner)) / max(1, inner)], 1)

    def _appearance(self, random: ItemRandom) -> rendering.Appearance:
        """A background, and objects with textures of their own in colours that stand out from it."""
        background, mean = self.backgrounds.on(random.device).crop(random.stream("background").rand(3))
        surfaces = []
        for k in range(self.num_objects):
            surface, own_mean = self.surfaces.on(random.device).crop(random.stream(f"surface/{k}").rand(3))
            away = 0.3 + 0.8 * random.stream(f"colour/{k}").rand(3)
            colour = (mean - away * torch.where(mean < 0, -1.0, 1.0)).clamp(-0.7, 0.7)
            surfaces.append((surface + (colour - own_mean)[..., None, None]).clamp_(-1, 1))
        return rendering.Appearance(background, torch.stack(surfaces, 1))

    def _signs_of(self, clips: _Clips, mode: Int[Tensor, " n"]) -> Float[Tensor, "n objects"]:
        return self._signs.to(mode.device)[clips.kind, mode]

    def _paint(
        self, clips: _Clips, appearance: rendering.Appearance, mode: Int[Tensor, " n"], time: Float[Tensor, "n views"]
    ) -> Float[Tensor, "n views 3 height width"]:
        """The frames, a chunk of items at a time."""
        size, views = self.config.size, time.shape[1]
        signs = self._signs_of(clips, mode)
        frames = time.new_empty(len(time), views, 3, size, size)
        chunk = max(1, CHUNK_PIXELS // (size * size * max(1, views)))
        for first in range(0, len(time), chunk):
            part = slice(first, first + chunk)
            scene, look = (type(leaves)(*(leaf[part] for leaf in leaves)) for leaves in (clips.scene, appearance))
            frames[part] = rendering.paint(scene, look, signs[part], time[part])
        return frames
