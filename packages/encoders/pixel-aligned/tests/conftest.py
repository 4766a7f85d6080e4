"""Small settings, shared by the tests."""

from __future__ import annotations

import pytest
import torch
from goembed_pixel_aligned.config import SceneDenoiserConfig
from goembed_pixel_aligned.denoiser import SceneDenoiser

NETWORK = {
    "height": 8, "width": 8, "patch_size": 4, "hidden_size": 16, "num_heads": 2, "depth": 1, "out_channels": 6,
    "head_std": 0.1,
}  # fmt: skip


def tiny(**changed) -> SceneDenoiserConfig:
    """A denoiser of 8 x 8 images."""
    estimate = changed.pop("estimate", {})
    shown = 8 + estimate.get("features", 0)
    settings = {
        "context": {"network": {**NETWORK, "in_channels": 3}},
        "target": {"network": {**NETWORK, "in_channels": shown}},
        "field": {"width": 12, "frequencies": 2, "time_size": 8},
        "estimate": estimate,
        "renderer": {"near": 2.5, "far": 5.5, "proposal_samples": (), "samples": 4, "background": "white"},
    }
    return SceneDenoiserConfig.model_validate({**settings, **changed})


def moved(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Noise on every weight, as layers that begin at zero would hide what is wrong."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return module


@pytest.fixture
def denoiser() -> SceneDenoiser:
    """A small denoiser."""
    torch.manual_seed(0)
    return moved(SceneDenoiser(tiny())).eval()


@pytest.fixture
def settings():
    """The function that makes small settings."""
    return tiny


@pytest.fixture
def with_noise():
    """The function that moves weights."""
    return moved
