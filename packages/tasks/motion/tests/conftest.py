"""Settings of a small problem, shared by the tests."""

from __future__ import annotations

import pytest
from goembed_core.config import resolve


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Settings that make everything small."""
    return (
        "dataset.textures=noise", "dataset.size=16", "dataset.step_px=2", "denoiser.height=16", "denoiser.width=16",
        "denoiser.hidden_size=16", "denoiser.num_heads=2", "denoiser.depth=1",
    )  # fmt: skip


@pytest.fixture
def config(small):
    """The small problem."""
    return resolve("motion", small).config
