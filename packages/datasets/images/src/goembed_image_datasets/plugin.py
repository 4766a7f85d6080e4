"""Registers the image sets and the Fashion-MNIST feature network, by strings: importing this does not import torch."""

from goembed_core.plugins import Register, hookimpl


@hookimpl
def goembed_register(register: Register) -> None:
    """Called by the plugin host."""
    register(
        "dataset",
        "images",
        "goembed_image_datasets.images:ImageDataset",
        config="goembed_image_datasets.config:ImagesConfig",
        summary="a folder, a zip, an npz or IDX files of images",
    )
    register(
        "feature-network",
        "fashion-classifier",
        "goembed_image_datasets.classifier:FashionClassifier",
        config="goembed_image_datasets.config:FashionClassifierConfig",
        summary="64 features of a small Fashion-MNIST classifier",
    )
