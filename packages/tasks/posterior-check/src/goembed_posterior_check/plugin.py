"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the forward model, the denoiser and the task."""
    register(
        "forward-model",
        "linear",
        "goembed_posterior_check.linear:LinearForward",
        config="goembed_posterior_check.config:LinearConfig",
        summary="linear projections of a vector",
    )
    register(
        "denoiser",
        "projection-mlp",
        "goembed_posterior_check.mlp:ProjectionMLP",
        config="goembed_posterior_check.config:ProjectionMLPConfig",
        summary="residual MLP on back-projected observations, for any number of context views",
    )
    register(
        "task",
        "posterior_check",
        "goembed_posterior_check.task:PosteriorCheck",
        config="goembed_posterior_check.config:PosteriorCheckConfig",
        presets="goembed_posterior_check.config:PRESETS",
        summary="DFM's samples against exact posteriors",
    )
