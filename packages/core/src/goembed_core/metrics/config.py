"""The settings of the feature networks that come with core; importing this does not import torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from goembed_core.config import Config


class EfficientNetLite0Config(Config):
    """Which weights EfficientNet-Lite0 has."""

    weights: Path | None = Field(
        None,
        description="npz, safetensors or state-dict .pth; left out: efficientnet_lite0/*.npz in the folder that the "
        "environment variable GOEMBED_DATA names",
    )


class InceptionConfig(Config):
    """Which weights the Inception network of the FID has."""

    weights: Path | None = Field(
        None,
        description="state-dict .pth (pt_inception-2015-12-05-6726825d.pth) or safetensors; left out: the file that "
        "the environment variable GOEMBED_INCEPTION_WEIGHTS names",
    )
