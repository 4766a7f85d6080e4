"""Settings of a small problem, shared by the tests."""

from __future__ import annotations

import json

import pytest
from goembed_core.config import resolve


def network(channels: int, size: int) -> str:
    """The settings of an encoder's network."""
    return json.dumps(
        {"in_channels": channels, "height": size, "width": size, "patch_size": 4, "hidden_size": 32, "depth": 1,
         "num_heads": 2, "out_channels": 8, "head_std": 0.02}
    )  # fmt: skip


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Settings that make everything small."""
    return (
        "dataset.size=12", f"denoiser.context.network={network(3, 12)}", f"denoiser.target.network={network(8, 12)}",
        "denoiser.field.width=16", "denoiser.field.time_size=16", "score.rays=24", "train.mixed_precision=no",
        "forward_model.proposal_samples=[6]", "forward_model.samples=6", "denoiser.renderer.samples=6",
    )  # fmt: skip


@pytest.fixture
def config(small):
    """The small problem."""
    return resolve("inverse_graphics", small).config


@pytest.fixture
def settings(small):
    """The function that makes settings of the small problem, with some changed."""
    return lambda *more: resolve("inverse_graphics", (*small, *more)).config
