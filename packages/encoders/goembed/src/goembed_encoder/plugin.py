"""What this package registers; free of torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Register the encoder."""
    register(
        "encoder",
        "goembed",
        "goembed_encoder.encoder:from_config",
        config="goembed_encoder.config:GOEmbedConfig",
        summary="minus the gradient of a forward model's error at its origin, in one step or several",
    )
