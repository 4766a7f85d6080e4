"""Registers the encoder and the denoiser, by strings: importing this does not import torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Called by the plugin host."""
    register(
        "encoder",
        "pixel-aligned",
        "goembed_pixel_aligned.encoder:PixelAlignedEncoder",
        config="goembed_pixel_aligned.config:PixelAlignedConfig",
        summary="features of every pixel of posed views, by a diffusion transformer",
    )
    register(
        "denoiser",
        "pixel-aligned",
        "goembed_pixel_aligned.denoiser:SceneDenoiser",
        config="goembed_pixel_aligned.config:SceneDenoiserConfig",
        summary="radiance field of a context and a noisy target by pixel-aligned features",
    )
