"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the task, and what is viewed of its runs."""
    register(
        "task",
        "inverse_graphics",
        "goembed_inverse_graphics.task:InverseGraphics",
        config="goembed_inverse_graphics.config:InverseGraphicsConfig",
        presets="goembed_inverse_graphics.presets:PRESETS",
        sample_config="goembed_inverse_graphics.config:SampleConfig",
        summary="the 3D scenes that one image could be of",
    )
    register(
        "viewable",
        "inverse_graphics",
        "goembed_inverse_graphics.viewing:viewables",
        summary="scenes that one unseen image could be of",
    )
