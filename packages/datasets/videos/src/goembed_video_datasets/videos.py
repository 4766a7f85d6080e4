"""Pairs of frames of real clips, a short time apart, with frames between."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_image_datasets.decode import to_float
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from goembed_video_datasets.clips import ClipItem, ClipTime, require_indices, single_index
from goembed_video_datasets.config import VideosConfig
from goembed_video_datasets.frames import centre_square, cut, random_square
from goembed_video_datasets.sources import open_source
from goembed_video_datasets.windows import Starts, draw_frames, part_of, starts

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """Which frames an item shows."""

    clip: str
    frames: tuple[int, ...]  # of the clip: context, target, those between
    times: tuple[float, ...]  # when they are shown: in seconds, or in frames where there is no clock


class VideoDataset(Dataset[ClipItem]):
    """An item is a frame of a clip (time 0), one that follows within the window (time 1), and others between.

    Which ones is drawn by the item's number and the seed.  A clip's frames are found once; an item decodes its own and
    those since the key frame before.
    """

    def __init__(self, config: VideosConfig):
        self.config = config
        self.source = open_source(config.path, config.layout, config.split, config.fps, config.index)
        if config.window_s is not None and not self.source.has_clock:
            raise UserError(f"window_s={config.window_s:g}: pictures have no times; set `fps`, or use `window_frames`")
        self.skipped: list[str] = []  # why each clip was left out that could not be read
        self._clips, self._starts = self._prepare()
        self._ends = np.cumsum([len(found.context) for found in self._starts])
        if not len(self._ends):
            raise UserError(self._nothing())
        self._kept: dict[int, Tensor] = {}
        if config.cache == "memory":
            self._kept = {c: self._keep(c, found) for c, found in zip(self._clips, self._starts, strict=True)}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> ClipItem:
        values, params = self.observations(single_index(index, len(self)))
        return ClipItem(values[0], ClipTime(params.time[0]))

    def observations(self, indices: Int[Tensor, " n"]) -> Observations:
        """The frames of some items, `(B, V, 3, H, W)` in [-1, 1], and their times within the window."""
        size, frames = self.config.size, self.config.frames
        values = torch.empty(len(indices), frames, 3, size, size)
        time = torch.empty(len(indices), frames, dtype=torch.float64)
        for row, item in enumerate(require_indices(indices, len(self))):
            random = ItemRandom(self.config.seed, [item], f"videos/{self.config.split}")
            clip, numbers = self._drawn(item, random)
            values[row] = to_float(self._frames(item, clip, numbers, random))
            shown = torch.from_numpy(self.source.times(clip)[numbers])
            time[row] = (shown - shown[0]) / (shown[1] - shown[0])
        return Observations(values.to(indices.device), ClipTime(time.float().to(indices.device)))

    def window(self, index: int) -> Window:
        """Which frames an item shows."""
        (item,) = single_index(index, len(self)).tolist()
        clip, numbers = self._drawn(item, ItemRandom(self.config.seed, [item], f"videos/{self.config.split}"))
        return Window(self.source.names[clip], tuple(numbers), tuple(self.source.times(clip)[numbers].tolist()))

    def _drawn(self, item: int, random: ItemRandom) -> tuple[int, list[int]]:
        """An item's clip, and its frames there."""
        row = int(np.searchsorted(self._ends, item, "right"))
        found = self._starts[row]
        place = item - (int(self._ends[row - 1]) if row else 0)
        return self._clips[row], draw_frames(*(int(leaf[place]) for leaf in found), self.config.frames, random)

    def _frames(
        self, item: int, clip: int, numbers: list[int], random: ItemRandom
    ) -> UInt8[Tensor, "frames 3 size size"]:
        """Frames of a clip, cropped as the item has them."""
        if clip in self._kept:
            return self._kept[clip][numbers]
        try:
            pictures = self._pictures(clip, numbers)
        except UserError as error:
            raise UserError(f"{error} (item {item})") from error
        height, width = pictures.shape[2:]
        square = centre_square(height, width)
        if self.config.crop == "random":
            square = random_square(height, width, self.config.size, random.stream("crop").rand(3)[0])
        return cut(pictures, square, self.config.size)

    def _pictures(self, clip: int, numbers: Sequence[int]) -> UInt8[Tensor, "frames 3 height width"]:
        """Frames of a clip as they are stored, which have to be of one size."""
        pictures = self.source.read(clip, numbers)
        shapes = {picture.shape[1:] for picture in pictures}
        if len(shapes) > 1:
            sizes = ", ".join(f"{width}x{height}" for height, width in sorted(shapes))
            raise UserError(f"{self.source.names[clip]}: its frames differ in size, {sizes}; bring them to one")
        return torch.from_numpy(np.stack(pictures))

    def _keep(self, clip: int, found: Starts) -> UInt8[Tensor, "frames 3 size size"]:
        """Every frame of a clip that an item can show, cropped and in its place; some at a time, as they are large."""
        kept = torch.zeros(int(found.farthest.max()) + 1, 3, self.config.size, self.config.size, dtype=torch.uint8)
        for numbers in torch.arange(int(found.context.min()), len(kept)).split(64):
            pictures = self._pictures(clip, numbers.tolist())
            kept[numbers] = cut(pictures, centre_square(*pictures.shape[2:]), self.config.size)
        return kept

    def _prepare(self) -> tuple[list[int], list[Starts]]:
        """The clips of the split that have items, and where these start."""
        clips, found, short = [], [], 0
        last: tuple[np.ndarray, tuple[int, int], Starts] | None = None
        for clip, name in enumerate(self.source.names):
            try:
                self.source.prepare(clip, decode=self.config.on_error == "skip")
            except UserError as error:
                if self.config.on_error == "raise":
                    raise
                log.warning("skipped: %s", error)
                self.skipped.append(str(error))
                continue
            times = self.source.times(clip)
            part = (0, len(times)) if self.source.has_splits else part_of(name, len(times), self.config)
            if last is None or last[0] is not times or last[1] != part:  # else as the one before: all of Vimeo-90K
                last = times, part, starts(times, self.config, *part)
            if len(last[2].context):
                clips.append(clip)
                found.append(last[2])
            else:
                short += part[0] < part[1]
        where, total = self.config.path or "GOEMBED_DATA/videos", len(self.source.names)
        if self.skipped:
            log.warning("%s: left out %d of %d clips", where, len(self.skipped), total)
        if short:
            log.warning("%s: no window of %d of %d clips holds enough frames", where, short, total)
        return clips, found

    def _nothing(self) -> str:
        """Why there is no item."""
        where, total = self.config.path or "GOEMBED_DATA/videos", len(self.source.names)
        if len(self.skipped) == total:
            return f"{where}: none of its {total} clips can be read; the last one: {self.skipped[-1]}"
        return (
            f"{where}: none of its {total} clips has {self.config.frames} frames within a window in "
            f"split={self.config.split}; make the window longer, or change `holdout_clips` or `holdout_time`"
        )
