"""What the package registers, and that listing it costs no import of torch."""

import subprocess
import sys

from goembed_core import plugins
from goembed_video_datasets.config import SpritesConfig, VideosConfig
from goembed_video_datasets.sprites import SpriteDataset
from goembed_video_datasets.videos import VideoDataset


def test_settings_and_registration_do_not_import_torch():
    code = (
        "import sys, goembed_video_datasets, goembed_video_datasets.plugin, goembed_video_datasets.config\n"
        "heavy = {'torch', 'PIL', 'numpy', 'av'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_components_are_built_by_name(tmp_path, write_frames):
    write_frames(tmp_path / "clip", 4)
    videos = plugins.build("dataset", "videos", {"path": str(tmp_path), "size": 8, "split": "all"})
    assert isinstance(videos, VideoDataset) and videos[0].values.shape == (3, 3, 8, 8)
    sprites = plugins.build("dataset", "sprites", {"kind": "two", "textures": "noise"})
    assert isinstance(sprites, SpriteDataset) and sprites.num_modes == 4
    assert plugins.get("dataset", "videos").load_config() is VideosConfig
    assert plugins.get("dataset", "sprites").load_config() is SpritesConfig
