"""RealEstate10k: a text file of cameras for each clip, and its frames from a folder or out of a local video."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_image_datasets.decode import SUFFIXES
from goembed_nerf_renderer.cameras import from_realestate10k
from goembed_nerf_renderer.cameras.conventions import RealEstateCamera
from goembed_video_datasets.containers import VIDEO_SUFFIXES, VideoIndex, VideoReader
from goembed_video_datasets.indices import known_index
from jaxtyping import Float
from torch import Tensor

from goembed_multiview_datasets.config import RealEstateConfig
from goembed_multiview_datasets.pictures import from_bytes, read_rgba
from goembed_multiview_datasets.scenes import SceneDataset, View, located

COLUMNS = 19  # timestamp; fx, fy, cx, cy; two zeros; 3x4 world to camera by rows
TOLERANCE_S = 0.1  # how far from its time a video's frame may be
log = logging.getLogger(__name__)


def realestate10k(config: RealEstateConfig) -> SceneDataset:
    """The dataset `realestate10k`."""
    return SceneDataset(RealEstateSource(config), config)


class RealEstateSource:
    """Clips by their camera files, which are read when they are wanted; what frames there are is seen at the start."""

    def __init__(self, config: RealEstateConfig):
        expected = "the folder of RealEstate10K with train/ and test/, or one of files <clip>.txt"
        root = located(config.path, None, expected)
        parts = ("train", "test") if config.split == "all" else (config.split,)
        files = [file for part in parts for file in sorted((root / part).glob("*.txt"))] or sorted(root.glob("*.txt"))
        if not files:
            raise UserError(f"{root}: holds no <clip>.txt in {' or '.join(parts)}; give `path` {expected}")
        self.config = config
        self._reader = VideoReader()
        self._indices: dict[Path, VideoIndex] = {}
        self._clips: list[tuple[Path, Path, list[int]]] = []  # camera file, folder or video, lines that are there
        missing = 0
        for file in files:
            source = self._source(file)
            if source is not None:
                lines = self._lines_of(file, source)
                self._clips.append((file, source, lines))
            missing += source is None
        if missing:
            log.warning("%s: left out %d of %d clips, whose frames are not there", root, missing, len(files))
        if not self._clips:
            raise UserError(f"{root}: of none of its {len(files)} clips there are frames; set `frames` or `videos`")
        self.names = [file.stem for file, _, _ in self._clips]

    def count(self, scene: int) -> int:
        """How many frames of a clip are there."""
        return len(self._clips[scene][2])

    def read(self, scene: int, views: Sequence[int]) -> list[View]:
        """Some frames of a clip."""
        file, source, lines = self._clips[scene]
        chosen = [lines[view] for view in views]
        rows = {line: _row(file, line, text) for line, text in _lines(file).items() if line in set(chosen)}
        if self.config.videos is not None:
            images = self._from_video(file, source, [rows[line] for line in chosen])
        else:
            images = [read_rgba(_picture(source, rows[line])) for line in chosen]
        return [self._view(file, line, rows[line], image) for line, image in zip(chosen, images, strict=True)]

    def _view(self, file: Path, line: int, row: Float[Tensor, " 19"], rgba: Float[Tensor, "4 h w"]) -> View:
        camera = RealEstateCamera(row[1:5], row[7:].reshape(3, 4))
        where = f"{file}: line {line} (timestamp {int(row[0])})"
        return View(where, rgba, from_realestate10k(camera, rgba.shape[2], rgba.shape[1]), self.config.near_far)

    def _source(self, file: Path) -> Path | None:
        """The folder or the video of a clip; `None` for one that is not there and may be missing."""
        if self.config.videos is not None:
            name = _video_of(file)
            places = [self.config.videos.expanduser() / f"{name}{suffix}" for suffix in VIDEO_SUFFIXES]
            found = next((place for place in places if place.is_file()), None)
        else:
            frames = self.config.frames.expanduser()
            places = [frames / file.stem, frames / file.parent.name / file.stem]
            found = next((place for place in places if place.is_dir()), None)
        if found is None and self.config.on_missing == "raise":
            raise UserError(f"{file}: its frames are not there ({places[0]}); fetch them, or set on_missing=skip")
        return found

    def _lines_of(self, file: Path, source: Path) -> list[int]:
        """The lines of a clip's cameras of which there are frames; a video has all."""
        lines = _lines(file)
        if self.config.videos is not None:
            return list(lines)
        there = {path.stem for path in source.iterdir() if path.suffix.lower() in SUFFIXES}
        missing = [line for line, text in lines.items() if text.split(maxsplit=1)[0] not in there]
        if missing and self.config.on_missing == "raise":
            stamp = lines[missing[0]].split(maxsplit=1)[0]
            raise UserError(
                f"{file}: line {missing[0]}: its frame {source / stamp}.png is not there (nor those of "
                f"{len(missing) - 1} others); fetch it, or set on_missing=skip"
            )
        return [line for line in lines if line not in set(missing)]

    def _from_video(self, file: Path, video: Path, rows: Sequence[Float[Tensor, " 19"]]) -> list[Tensor]:
        """The frames that are shown at the times of some cameras."""
        if video not in self._indices:
            self._indices[video] = known_index(video, False, self.config.index)
        index = self._indices[video]
        shown = (index.pts - index.pts[0]) * index.tick_s
        wanted = np.array([float(row[0]) * 1e-6 for row in rows])
        numbers = np.abs(shown[None] - wanted[:, None]).argmin(1)
        late = np.abs(shown[numbers] - wanted)
        if late.max() > TOLERANCE_S:
            time = wanted[int(late.argmax())]
            raise UserError(
                f"{file}: no frame of {video} is shown at {time:.3f} s, the nearest one is {late.max():.2f} s off: "
                f"is it the whole video {_video_of(file)}? fetch it again"
            )
        unique = sorted({int(number) for number in numbers})
        pictures = dict(zip(unique, self._reader.read(video, index, unique), strict=True))
        return [from_bytes(pictures[int(number)].transpose(1, 2, 0)) for number in numbers]


def _lines(file: Path) -> dict[int, str]:
    """The lines of a clip's cameras by number; the first one is the video's address."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); fetch it again") from error
    found = {number: line for number, line in enumerate(lines[1:], 2) if line.strip()}
    if not found:
        raise UserError(f"{file}: has no cameras; expected the video's address and a line for each frame")
    return found


def _video_of(file: Path) -> str:
    """What the video is called of which a clip was taken."""
    with file.open(encoding="ascii", errors="replace") as lines:
        address = lines.readline().strip()
    parts = urlparse(address)
    name = parse_qs(parts.query).get("v", [parts.path.rpartition("/")[2]])[0]
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"{file}: the first line is {address[:60]!r}, expected the address of a video; fetch it again")
    return name


def _row(file: Path, line: int, text: str) -> Float[Tensor, " 19"]:
    """The numbers of a line."""
    try:
        values = torch.tensor([float(word) for word in text.split()], dtype=torch.float64)
    except ValueError as error:
        raise UserError(f"{file}: line {line}: expected {COLUMNS} numbers ({error}); fetch it again") from error
    if len(values) != COLUMNS or not values.isfinite().all():
        raise UserError(f"{file}: line {line}: holds {len(values)} numbers, expected {COLUMNS} finite ones")
    if values[5:7].any():
        raise UserError(f"{file}: line {line}: its lens is distorted, and pinholes are expected; undistort the frames")
    return values


def _picture(folder: Path, row: Float[Tensor, " 19"]) -> Path:
    stem = str(int(row[0]))
    return next(folder / f"{stem}{suffix}" for suffix in SUFFIXES if (folder / f"{stem}{suffix}").is_file())
