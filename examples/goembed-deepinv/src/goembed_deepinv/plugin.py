"""What the package offers; free of torch and of deepinv."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the forward model and the task that shows it."""
    register(
        "forward-model",
        "deepinv",
        "goembed_deepinv.forward:forward_model",
        config="goembed_deepinv.config:DeepinvConfig",
        summary="any physics operator of deepinv: tomography, blur, inpainting, MRI, phase retrieval, ...",
    )
    register(
        "task",
        "tomography",
        "goembed_deepinv.task:Tomography",
        config="goembed_deepinv.config:TomographyConfig",
        presets="goembed_deepinv.config:PRESETS",
        summary="images behind a few projections, learnt from projections alone",
    )
