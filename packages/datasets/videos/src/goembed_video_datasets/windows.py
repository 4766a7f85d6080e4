"""Which frames of a clip can be context, and which target of it: the pairs that are drawn from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from goembed_core.randomness import ItemRandom, derive_seed
from jaxtyping import Float64, Int64

from goembed_video_datasets.config import VideosConfig

SLACK = 1e-6  # of a window in seconds: times are sums of fractions


class Starts(NamedTuple):
    """The contexts of one clip, and for each the first and the last frame that can be its target."""

    context: Int64[np.ndarray, " starts"]
    nearest: Int64[np.ndarray, " starts"]
    farthest: Int64[np.ndarray, " starts"]


def starts(times: Float64[np.ndarray, " frames"], config: VideosConfig, first: int, end: int) -> Starts:
    """The contexts among the frames `first ... end - 1`, every `stride`-th one, whose window holds enough frames."""
    context = np.arange(first, end, config.stride, dtype=np.int64)
    nearest = context + config.frames - 1
    if config.window_s is None:
        farthest = context + config.window_frames
    else:
        farthest = np.searchsorted(times, times[context] + config.window_s * (1 + SLACK), "right") - 1
    farthest = np.minimum(farthest, end - 1)
    kept = nearest <= farthest
    return Starts(context[kept], nearest[kept], farthest[kept])


def part_of(name: str, num_frames: int, config: VideosConfig) -> tuple[int, int]:
    """The first frame of a clip that belongs to the split, and the one after the last; the same on every machine."""
    if config.split == "all":
        return 0, num_frames
    if derive_seed(0, "holdout", name) / 2**63 < config.holdout_clips:
        return (0, num_frames) if config.split == "test" else (0, 0)
    cut = round(num_frames * (1 - config.holdout_time))
    return (0, cut) if config.split == "train" else (cut, num_frames)


def draw_frames(context: int, nearest: int, farthest: int, frames: int, random: ItemRandom) -> list[int]:
    """One item's frames: context, target, and those between in order, without repetition."""
    target = int(random.stream("target").randint(nearest, farthest + 1))
    inner = random.stream("between").rand(target - context - 1)[0].argsort()[: frames - 2]
    return [context, target, *sorted((inner + context + 1).tolist())]
