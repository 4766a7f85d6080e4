"""What the package offers; free of torch."""

from __future__ import annotations

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the decoders, the encoder of the baseline, and the task."""
    register(
        "forward-model",
        "image-decoder",
        "goembed_gon.decoders:ImageDecoder",
        config="goembed_gon.config:ImageDecoderConfig",
        summary="transposed convolutions from a vector to a small image",
    )
    register(
        "forward-model",
        "siren-decoder",
        "goembed_gon.decoders:SirenDecoder",
        config="goembed_gon.config:SirenDecoderConfig",
        summary="a network of sines from a vector and a place to the colour there",
    )
    register(
        "encoder",
        "image-encoder",
        "goembed_gon.baseline:ImageEncoder",
        config="goembed_gon.config:ImageEncoderConfig",
        summary="convolutions from a small image to a vector",
    )
    register(
        "task",
        "gon",
        "goembed_gon.task:GON",
        config="goembed_gon.config:GONConfig",
        presets="goembed_gon.config:PRESETS",
        sample_config="goembed_gon.config:SampleConfig",
        summary="gradient origin networks beside auto-encoders of twice the parameters",
    )
