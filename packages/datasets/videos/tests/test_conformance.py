"""What every dataset has to hold to: procedural clips, videos, pictures."""

from pathlib import Path

import pytest
from goembed_core.testing import parametrize_dataset
from goembed_video_datasets.config import SpritesConfig, VideosConfig
from goembed_video_datasets.sprites import SpriteDataset
from goembed_video_datasets.videos import VideoDataset

FOLDER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory, write_video, write_frames):
    FOLDER[:] = [tmp_path_factory.mktemp("clips")]
    for number in range(2):
        write_video(FOLDER[0] / f"{number}.mp4", frames=8, offset=10 * number)
        write_frames(FOLDER[0] / f"{number}", 6, offset=10 * number)


@parametrize_dataset(lambda: SpriteDataset(SpritesConfig(kind="mixed", textures="noise", jitter_px=1.0, frames=4)))
def test_sprites_conform(check):
    check()


@parametrize_dataset(lambda: VideoDataset(VideosConfig(path=FOLDER[0], split="all", size=16, crop="random")))
def test_videos_conform(check):
    check()


@parametrize_dataset(
    lambda: VideoDataset(VideosConfig(path=FOLDER[0], layout="frames", split="all", size=16, cache="memory"))
)
def test_pictures_conform(check):
    check()
