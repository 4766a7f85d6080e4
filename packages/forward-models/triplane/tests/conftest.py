"""What the tests share: the representations, small."""

from __future__ import annotations

import pytest
import torch
from goembed_triplane.config import FactoredConfig, SirenConfig, TriplaneConfig, VoxelsConfig

torch.set_num_threads(1)

SMALL = {
    "triplane": TriplaneConfig(resolution=5, channels=3),
    "concat": TriplaneConfig(resolution=5, channels=2, combine="concat"),
    "voxels": VoxelsConfig(resolution=4, channels=3),
    "product": FactoredConfig(resolution=5, channels=2),
    "sum": FactoredConfig(resolution=5, channels=2, combine="sum"),
    "siren": SirenConfig(hidden_size=6, channels=3),
}


@pytest.fixture(params=SMALL)
def small(request):
    """The settings of each representation."""
    return SMALL[request.param]


@pytest.fixture(params=[name for name in SMALL if name != "siren"])
def small_grid(request):
    """The settings of each grid."""
    return SMALL[request.param]
