"""Registers the posed views, by strings: importing this does not import torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Called by the plugin host."""
    register(
        "dataset",
        "blender",
        "goembed_multiview_datasets.blender:blender",
        config="goembed_multiview_datasets.config:BlenderConfig",
        summary="NeRF-synthetic scenes, and others with a transforms.json",
    )
    register(
        "dataset",
        "llff",
        "goembed_multiview_datasets.llff:llff",
        config="goembed_multiview_datasets.config:LlffConfig",
        summary="photographs with a poses_bounds.npy",
    )
