"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the baseline's encoder and the tasks."""
    register(
        "encoder",
        "unprojection",
        "goembed_fusion.unprojection:from_config",
        config="goembed_fusion.config:UnprojectionConfig",
        summary="mean and variance of the colours that views have of each place, in the grids of a representation",
    )
    register(
        "task",
        "plenoptic_encoding",
        "goembed_fusion.encoding.task:PlenopticEncoding",
        config="goembed_fusion.config:PlenopticEncodingConfig",
        presets="goembed_fusion.config:PRESETS",
        sample_config="goembed_fusion.config:SampleConfig",
        summary="views of objects encoded without a network and decoded, judged by views that are held out",
    )
