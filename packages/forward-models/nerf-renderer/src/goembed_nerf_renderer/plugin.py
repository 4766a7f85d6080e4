"""What this package registers."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the forward model."""
    register(
        "forward-model",
        "nerf-renderer",
        "goembed_nerf_renderer.renderer:VolumeRenderer",
        config="goembed_nerf_renderer.config:RendererConfig",
        summary="volume rendering of any radiance field under any pinhole cameras",
    )
