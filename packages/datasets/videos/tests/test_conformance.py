"""What every dataset has to hold to."""

from goembed_core.testing import parametrize_dataset
from goembed_video_datasets.config import SpritesConfig
from goembed_video_datasets.sprites import SpriteDataset


@parametrize_dataset(lambda: SpriteDataset(SpritesConfig(kind="mixed", textures="noise", jitter_px=1.0, frames=4)))
def test_sprites_conform(check):
    check()
