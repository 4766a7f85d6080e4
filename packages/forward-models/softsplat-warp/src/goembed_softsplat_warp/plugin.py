"""What this package registers."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the forward model."""
    register(
        "forward-model",
        "softsplat-warp",
        "goembed_softsplat_warp.model:SoftsplatWarp",
        config="goembed_softsplat_warp.config:SoftsplatWarpConfig",
        summary="softmax splatting: an image moved along its motion, at any time",
    )
