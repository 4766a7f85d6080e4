"""Registers the clips, by strings: importing this does not import torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Called by the plugin host."""
    register(
        "dataset",
        "videos",
        "goembed_video_datasets.videos:VideoDataset",
        config="goembed_video_datasets.config:VideosConfig",
        summary="pairs of frames of videos, folders of pictures or Vimeo-90K",
    )
    register(
        "dataset",
        "sprites",
        "goembed_video_datasets.sprites:SpriteDataset",
        config="goembed_video_datasets.config:SpritesConfig",
        summary="procedural clips whose future is random by construction, with exact flow",
    )
