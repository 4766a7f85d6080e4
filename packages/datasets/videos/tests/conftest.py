"""What the tests share: the slow painter of procedural frames, and videos made on the spot."""

import importlib.util
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 48, 32


def load_beside(name: str) -> ModuleType:
    """A helper module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"video_datasets_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def painting() -> ModuleType:
    return load_beside("painting")


def picture(number: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """A picture (height, width, 3) that is like no other number's: a bar that moves, on a gradient."""
    width, height = size
    array = np.zeros((height, width, 3), np.uint8)
    array[..., 1] = np.linspace(40, 200, width)[None]
    array[:, 3 * number % (width - 6) : 3 * number % (width - 6) + 6, 0] = 220
    array[: height // 2, :, 2] = 6 * (number % 40)
    return array


@pytest.fixture(scope="session")
def frame_of() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Write a video of `picture`s; `ticks` are the times of its frames, in 1/100 s."""

    def write(
        path: Path,
        frames: int = 12,
        codec: str = "libx264",
        ticks: Sequence[int] | None = None,
        gop: int = 5,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        offset: int = 0,
    ) -> Path:
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=10, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt, stream.gop_size, stream.codec_context.thread_count = "yuv420p", gop, 1
            if ticks is not None:
                stream.codec_context.time_base = Fraction(1, 100)
            container.start_encoding()  # else nothing is written without frames
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(number + offset, size), format="rgb24")
                frame.pts = number if ticks is None else ticks[number]
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def write_frames() -> Callable[..., Path]:
    """Write `picture`s as a folder of numbered files."""

    def write(folder: Path, frames: int = 8, pattern: str = "im{}.png", first: int = 1, offset: int = 0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(frames):
            Image.fromarray(picture(number + offset)).save(folder / pattern.format(number + first))
        return folder

    return write
