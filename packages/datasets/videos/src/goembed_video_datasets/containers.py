"""Video files: what frames they hold, found once, and any of them without decoding the others from the start."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from goembed_core.errors import UserError
from jaxtyping import Int64, UInt8

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
# Only demuxers that read the file itself: a playlist with a video's name would make FFmpeg open what it lists.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg"
MAX_PIXELS = 8192 * 8192  # of a frame
MAX_OPEN = 8  # files a process keeps open
DAMAGE = (av.FFmpegError, OSError, ValueError, IndexError, OverflowError, StopIteration)


class VideoIndex(NamedTuple):
    """The frames of a video in the order they are shown."""

    pts: Int64[np.ndarray, " frames"]  # when each is shown, in ticks
    keys: Int64[np.ndarray, " keys"]  # those of frames that decoding can start from
    tick_s: float


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """A file and its first video track, decoded by one thread: who reads in many processes has enough of them."""
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected a video")
    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        container = av.open(f"file:{path.absolute()}", options=options)
    except DAMAGE as error:
        raise UserError(f"{path}: cannot be read as a video ({_said(error)}); remove it or fetch it again") from error
    stream = next(iter(container.streams.video), None)
    if stream is None or stream.codec_context is None:
        container.close()
        lacks = "no video track with a frame" if stream is None else "a codec that is not known"
        raise UserError(f"{path}: has {lacks}; remove it or convert it")
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return container, stream


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """`open_video`, closed afterwards; damage within is a `UserError` that names the file."""
    container, stream = open_video(path)
    try:
        yield container, stream
    except DAMAGE as error:
        raise UserError(f"{path}: is damaged or truncated ({_said(error)}); remove it or fetch it again") from error
    finally:
        container.close()


def index_video(path: Path, decode: bool = False) -> VideoIndex:
    """Look through a file's packets for the times of its frames; none is decoded.

    **Arguments:**
    - `decode`: decode everything once, and refuse a file of which any frame is damaged.
    """
    with opened(path) as (container, stream):
        if not stream.time_base:
            raise UserError(f"{path}: has no frames; remove it")
        packets = [(p.pts, p.is_keyframe, p.is_corrupt) for p in container.demux(stream) if p.size and not p.is_discard]
        tick_s, format_name = float(stream.time_base), container.format.name
        expected = stream.frames if format_name.startswith("mov") else 0
    if not packets and not expected:
        raise UserError(f"{path}: has no frames; remove it")
    times = [pts for pts, _, _ in packets]
    if None in times or len(set(times)) != len(times):
        raise UserError(
            f"{path}: its frames have no times of their own; write it again as `ffmpeg -i FILE NEW.mp4` does"
        )
    if any(corrupt for _, _, corrupt in packets) or len(packets) < expected:
        whole = sum(not corrupt for _, _, corrupt in packets)
        raise UserError(f"{path}: is truncated: {whole} of {max(expected, len(packets))} frames; fetch it again")
    pts = np.array(sorted(times), np.int64)
    keys = np.array(sorted(pts for pts, is_key, _ in packets if is_key), np.int64)
    index = VideoIndex(pts, keys, tick_s)
    if decode:
        _decode_all(path, index)
    elif format_name == "avi":  # which has no place for the times of frames that are stored out of order
        with opened(path) as (container, stream):
            list(in_order(path, islice(container.decode(stream), 32)))
    return index


class VideoReader:
    """Frames of videos by number.  A file is opened once in every process, never shared with a forked one."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, tuple[InputContainer, VideoStream]] = OrderedDict()
        self._process = os.getpid()

    def read(self, path: Path, index: VideoIndex, numbers: Sequence[int]) -> list[UInt8[np.ndarray, "3 height width"]]:
        """The frames `numbers` of a file, each decoded from the last frame before it that allows it."""
        start_of = np.searchsorted(index.keys, index.pts[list(numbers)], "right") - 1
        found: dict[int, np.ndarray] = {}
        for start in np.unique(start_of).tolist():
            wanted = {int(index.pts[n]): n for n, s in zip(numbers, start_of.tolist(), strict=True) if s == start}
            found |= self._decode(path, index, start, wanted)
        return [found[number].copy() for number in numbers]

    def _decode(self, path: Path, index: VideoIndex, start: int, wanted: dict[int, int]) -> dict[int, np.ndarray]:
        """Frames by number that lie between one key frame and the next; `wanted` is their numbers by time."""
        first = min(wanted)
        for key in dict.fromkeys(
            (start, max(start - 1, -1), -1)
        ):  # where seeking goes too far: the one before; the start
            found = {}
            at = int(index.keys[key]) if key >= 0 else int(index.pts[0])
            for frame in self._frames_from(path, at, key < 0):
                if not found and frame.pts > first:
                    break
                if frame.pts in wanted:
                    number = wanted[frame.pts]
                    found[number] = pixels(frame, path, number)
                    if len(found) == len(wanted):
                        return found
        missing = min(set(wanted.values()) - set(found))
        raise UserError(f"{path}: frame {missing} cannot be decoded; remove the file or fetch it again")

    def _frames_from(self, path: Path, pts: int, reopen: bool) -> Iterator[VideoFrame]:
        if reopen:
            self._close(path)
        container, stream = self._file(path)
        try:
            if not reopen:
                container.seek(pts, stream=stream)
            yield from in_order(path, container.decode(stream))
        except DAMAGE as error:
            self._close(path)
            raise UserError(f"{path}: is damaged or truncated ({_said(error)}); remove it or fetch it again") from error

    def _file(self, path: Path) -> tuple[InputContainer, VideoStream]:
        if self._process != os.getpid():
            self._files, self._process = OrderedDict(), os.getpid()
        if path not in self._files:
            self._files[path] = open_video(path)
            if len(self._files) > MAX_OPEN:
                self._files.popitem(last=False)[1][0].close()
        self._files.move_to_end(path)
        return self._files[path]

    def _close(self, path: Path) -> None:
        if self._process == os.getpid() and path in self._files:
            self._files.pop(path)[0].close()

    def __getstate__(self) -> dict[str, object]:
        return {"_files": OrderedDict(), "_process": -1}


def in_order(path: Path, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """Frames as they are decoded, each of which has to be later than the one before."""
    last = None
    for frame in frames:
        if frame.pts is None or (last is not None and frame.pts <= last):
            raise UserError(
                f"{path}: its frames have no times, or not in order; write it again as `ffmpeg -i FILE NEW.mp4` does"
            )
        last = frame.pts
        yield frame


def pixels(frame: VideoFrame, path: Path, number: int) -> UInt8[np.ndarray, "3 height width"]:
    """A decoded frame in colour, turned as it is to be shown; non-square pixels are taken for square."""
    if frame.is_corrupt:
        raise UserError(f"{path}: frame {number} is damaged; remove the file or fetch it again")
    array = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
    return array.transpose(2, 0, 1)


def first_frame(path: Path) -> UInt8[np.ndarray, "3 height width"]:
    """The first frame of a video."""
    with opened(path) as (container, stream):
        return np.ascontiguousarray(pixels(next(container.decode(stream)), path, 0))


def _decode_all(path: Path, index: VideoIndex) -> None:
    with opened(path) as (container, stream):
        shown = []
        for number, frame in enumerate(in_order(path, container.decode(stream))):
            pixels(frame, path, number)
            shown.append(frame.pts)
    if shown != index.pts.tolist():
        lost = len(set(index.pts.tolist()) - set(shown))
        raise UserError(f"{path}: {lost} of {len(index.pts)} frames cannot be decoded; remove it or fetch it again")


def _said(error: BaseException) -> str:
    """FFmpeg's words, without the path that the message names already."""
    return str(getattr(error, "strerror", None) or error or "it has no frame").splitlines()[0]
