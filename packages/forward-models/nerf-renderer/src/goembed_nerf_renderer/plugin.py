"""What this package registers."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the forward model and the viewer."""
    register(
        "forward-model",
        "nerf-renderer",
        "goembed_nerf_renderer.renderer:VolumeRenderer",
        config="goembed_nerf_renderer.config:RendererConfig",
        summary="volume rendering of any radiance field under any pinhole cameras",
    )
    register(
        "command",
        "view",
        "goembed_nerf_renderer.viewer:view",
        config="goembed_nerf_renderer.config:ViewConfig",
        summary="show a run's radiance fields and cameras in the browser (RUN, host, port, show, moving_px, still_px)",
    )
