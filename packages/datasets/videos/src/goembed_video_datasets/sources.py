"""Where clips lie: videos, folders of pictures, Vimeo-90K.  A source knows names and times, and reads frames."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from goembed_core.errors import UserError
from goembed_image_datasets.decode import SUFFIXES as IMAGE_SUFFIXES
from jaxtyping import Float64, UInt8

from goembed_video_datasets.containers import VIDEO_SUFFIXES, VideoIndex, VideoReader
from goembed_video_datasets.frames import read_picture
from goembed_video_datasets.indices import known_index

Picture = UInt8[np.ndarray, "3 height width"]
VIMEO_LISTS = {"septuplet": ("sep_{}list.txt", 7), "triplet": ("tri_{}list.txt", 3)}


@runtime_checkable
class ClipSource(Protocol):
    """Clips by number, in an order that is the same everywhere."""

    names: list[str]  # what an error calls each clip, and what its split is drawn from
    has_clock: bool  # whether times are seconds, or numbers of frames
    has_splits: bool  # whether the names are those of one split already

    def prepare(self, clip: int, decode: bool) -> None:
        """Find the clip's frames; `decode` tries every one of them.  UserError where that fails."""
        ...

    def times(self, clip: int) -> Float64[np.ndarray, " frames"]:
        """When each frame of a prepared clip is shown."""
        ...

    def read(self, clip: int, numbers: Sequence[int]) -> list[Picture]:
        """Some frames of a prepared clip."""
        ...


class VideoSource:
    """Video files, each a clip; a frame's time is that in the file, so that any frame rate will do."""

    has_clock = True
    has_splits = False

    def __init__(self, root: Path, names: list[str], index: Path | None):
        self.root = root
        self.names = names
        self._index_folder = index
        self._indices: dict[int, VideoIndex] = {}
        self._reader = VideoReader()

    def prepare(self, clip: int, decode: bool) -> None:
        """Look through the file, unless that is known."""
        self._indices[clip] = known_index(self.root / self.names[clip], decode, self._index_folder)

    def times(self, clip: int) -> Float64[np.ndarray, " frames"]:
        """In seconds from the first frame."""
        index = self._indices[clip]
        return (index.pts - index.pts[0]) * index.tick_s

    def read(self, clip: int, numbers: Sequence[int]) -> list[Picture]:
        """Seek and decode."""
        return self._reader.read(self.root / self.names[clip], self._indices[clip], numbers)


class FrameSource:
    """Folders of pictures, each a clip; frames are evenly spaced."""

    has_splits = False

    def __init__(self, clips: dict[str, list[Path]], fps: float | None):
        self.names = list(clips)
        self.has_clock = fps is not None
        self._files = list(clips.values())
        self._fps = fps or 1.0

    def prepare(self, clip: int, decode: bool) -> None:
        """Nothing to find out; tries to decode every picture where that is wanted."""
        if decode:
            self.read(clip, range(len(self._files[clip])))

    def times(self, clip: int) -> Float64[np.ndarray, " frames"]:
        """In seconds with `fps`, else in frames."""
        return np.arange(len(self._files[clip])) / self._fps

    def read(self, clip: int, numbers: Sequence[int]) -> list[Picture]:
        """Decode the pictures."""
        return [read_picture(self._files[clip][number]) for number in numbers]


class VimeoSource:
    """Vimeo-90K as published (Xue et al. 2019): `sequences/00001/0001/im1.png`, and lists of a split's sequences."""

    has_splits = True

    def __init__(self, root: Path, split: Literal["train", "test", "all"], fps: float | None):
        self.root = root
        self.has_clock = fps is not None
        pattern, self.num_frames = vimeo_layout(root)
        self.names = []
        for part in ("train", "test") if split == "all" else (split,):
            self.names += _read_list(root / pattern.format(part))
        self._times = np.arange(self.num_frames) / (fps or 1.0)

    def prepare(self, clip: int, decode: bool) -> None:
        """Nothing to find out; tries to decode every picture where that is wanted."""
        if decode:
            self.read(clip, range(self.num_frames))

    def times(self, clip: int) -> Float64[np.ndarray, " frames"]:
        """In seconds with `fps`, else in frames; the same array for every clip."""
        return self._times

    def read(self, clip: int, numbers: Sequence[int]) -> list[Picture]:
        """Decode the pictures."""
        folder = self.root / "sequences" / self.names[clip]
        return [read_picture(folder / f"im{number + 1}.png") for number in numbers]


def open_source(
    path: Path | None,
    layout: Literal["auto", "videos", "frames", "vimeo90k"],
    split: Literal["train", "test", "all"],
    fps: float | None,
    index: Path | None,
) -> ClipSource:
    """The source that a path stands for."""
    path = _located(path)
    if path.is_file():
        if path.suffix.lower() not in VIDEO_SUFFIXES or layout not in ("auto", "videos"):
            raise UserError(
                f"{path}: is no folder, and no video ({', '.join(VIDEO_SUFFIXES)}); give `path` one of these"
            )
        return VideoSource(path.parent, [path.name], index)
    if layout == "vimeo90k" or (layout == "auto" and vimeo_layout(path, required=False)):
        return VimeoSource(path, split, fps)
    videos, pictures = _walk(path)
    if videos and layout in ("auto", "videos"):
        return VideoSource(path, videos, index)
    if pictures and layout in ("auto", "frames"):
        return FrameSource(pictures, fps)
    wanted = {"videos": "video", "frames": "picture"}.get(layout, "video and no picture")
    raise UserError(
        f"{path}: holds no {wanted}; expected videos ({', '.join(VIDEO_SUFFIXES)}), folders of pictures "
        f"({', '.join(IMAGE_SUFFIXES)}), or Vimeo-90K with its lists"
    )


def vimeo_layout(root: Path, required: bool = True) -> tuple[str, int] | None:
    """How the lists of Vimeo-90K in a folder are called, and the frames of a sequence; `None` where there are none."""
    for pattern, frames in VIMEO_LISTS.values():
        if any((root / pattern.format(part)).is_file() for part in ("train", "test")):
            return pattern, frames
    if not required:
        return None
    lists = " or ".join(pattern.format("train") for pattern, _ in VIMEO_LISTS.values())
    raise UserError(f"{root}: has no list of Vimeo-90K ({lists}); give `path` the folder with the lists and sequences/")


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts `im10` after `im9`."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part.lower()) for part in parts] + [(2, 0, name)]


def _read_list(path: Path) -> list[str]:
    """The sequences that a list of Vimeo-90K names."""
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch Vimeo-90K again, with its lists") from error
    for number, line in enumerate(lines, 1):
        if not re.fullmatch(r"[0-9]{5}/[0-9]{4}", line):
            raise UserError(
                f"{path}: entry {number} is {line[:40]!r}, expected a sequence as 00001/0001; fetch it again"
            )
    if not lines:
        raise UserError(f"{path}: names no sequence; fetch it again")
    return lines


def _walk(root: Path) -> tuple[list[str], dict[str, list[Path]]]:
    """The videos of a folder and of those in it, and the pictures of each; links to folders are not followed."""
    videos, pictures = [], {}
    for folder, _, names in os.walk(root):
        names = [name for name in names if not name.startswith(".")]
        place = Path(folder).relative_to(root)
        videos += [(place / name).as_posix() for name in names if name.lower().endswith(VIDEO_SUFFIXES)]
        images = sorted((name for name in names if name.lower().endswith(IMAGE_SUFFIXES)), key=natural)
        if images:
            pictures[place.as_posix() if place.parts else root.absolute().name] = [
                Path(folder, name) for name in images
            ]
    return sorted(videos, key=natural), dict(sorted(pictures.items(), key=lambda item: natural(item[0])))


def _located(path: Path | None) -> Path:
    """The path that is meant; without one, the videos in the data folder."""
    if path is not None:
        if not path.expanduser().exists():
            raise UserError(f"{path}: no such file or folder; give `path` videos, folders of pictures, or Vimeo-90K")
        return path.expanduser()
    data = os.environ.get("GOEMBED_DATA")
    if not data:
        raise UserError(
            "no videos given: set `path` to a folder of videos, of folders of pictures or to Vimeo-90K, or the "
            "environment variable GOEMBED_DATA to the folder that holds videos/"
        )
    folder = Path(data).expanduser() / "videos"
    if not folder.is_dir():
        raise UserError(f"GOEMBED_DATA={data} has no folder videos; put videos there, or set `path`")
    return folder
