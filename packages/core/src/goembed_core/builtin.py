"""What core itself registers; importing this does not import torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Called by the plugin host."""
    register(
        "feature-network",
        "efficientnet-lite0",
        "goembed_core.metrics.efficientnet:EfficientNetLite0",
        config="goembed_core.metrics.config:EfficientNetLite0Config",
        summary="1280 ImageNet features; distances with it are not FID",
    )
    register(
        "feature-network",
        "inception",
        "goembed_core.metrics.inception:Inception",
        config="goembed_core.metrics.config:InceptionConfig",
        summary="2048 features of the FID's Inception-v3, from a weight file of yours",
    )
