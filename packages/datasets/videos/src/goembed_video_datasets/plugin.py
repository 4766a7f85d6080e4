"""Registers the clips, by strings: importing this does not import torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Called by the plugin host."""
    register(
        "dataset",
        "sprites",
        "goembed_video_datasets.sprites:SpriteDataset",
        config="goembed_video_datasets.config:SpritesConfig",
        summary="procedural clips whose future is random by construction, with exact flow",
    )
