"""Registers the diffusion transformer."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the denoiser `dit`."""
    register(
        "denoiser",
        "dit",
        "goembed_dit.denoiser:DiTDenoiser",
        config="goembed_dit.config:DiTConfig",
        summary="diffusion transformer with a pixel, vector or plane head",
    )
