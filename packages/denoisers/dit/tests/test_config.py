"""What a configuration refuses, and in which words."""

import subprocess
import sys

import pytest
from goembed_dit.config import DIT_SIZES, DiTConfig
from pydantic import ValidationError

GIVEN = {"in_channels": 3, "height": 32, "width": 64, "out_channels": 3}


def test_grid_counts_rows_and_columns_of_tokens():
    assert DiTConfig(**GIVEN, patch_size=8).grid == (4, 8)


@pytest.mark.parametrize("size", DIT_SIZES)
def test_size_is_short_for_three_settings(size):
    config = DiTConfig(**GIVEN, size=size)
    assert (config.hidden_size, config.depth, config.num_heads) == DIT_SIZES[size]
    assert DiTConfig(**config.model_dump()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 5}, "height=32 is not a multiple of patch_size=5: choose a patch_size that divides height=32"),
        ({"patch_size": 16, "width": 40}, "width=40 is not a multiple of patch_size=16"),
        ({"hidden_size": 192, "num_heads": 5}, "hidden_size=192 is not a multiple of num_heads=5: every head takes"),
        ({"hidden_size": 42, "num_heads": 3}, "hidden_size=42 is not a multiple of 4: the position embedding"),
        ({"frequency_dim": 255}, "frequency_dim=255 is odd: it counts sines and as many cosines"),
        ({"size": "S", "depth": 4}, "size=S means depth=12, but depth=4 is given too: leave one out"),
        ({"out_channels": None}, "head=pixels needs out_channels: out_channels is not given"),
        ({"head": "vector", "out_channels": None}, "head=vector needs vector_dim: vector_dim is not given"),
        (
            {"head": "planes", "num_planes": 3, "out_channels": None},
            "head=planes needs num_planes and plane_channels and plane_resolution: plane_channels is not given",
        ),
        (
            {"head": "vector", "vector_dim": 8},
            "out_channels=3 belongs to head=pixels, but the head is vector: leave out_channels out or set head=pixels",
        ),
        ({"vector_dim": 8}, "vector_dim=8 belongs to head=vector, but the head is pixels: leave vector_dim out or set"),
        (
            {"head": "planes", "num_planes": 3, "plane_channels": 2, "plane_resolution": 12, "out_channels": None},
            "plane_resolution=12 is not a multiple of the 8 tokens along the width",
        ),
        ({"mlp_ratio": 0.001}, "mlp_ratio=0.001 leaves nothing of hidden_size=192"),
        ({"size": "M"}, "Input should be 'S', 'B', 'L' or 'XL'"),
        ({"size": ["S"]}, "Input should be 'S', 'B', 'L' or 'XL'"),
        ({"dept": 4}, "Extra inputs are not permitted"),
    ],
)
def test_errors_say_what_to_do(changes, message):
    with pytest.raises(ValidationError) as error:
        DiTConfig(**(GIVEN | changes))
    assert message in str(error.value)


def test_an_mlp_ratio_of_any_size_is_compared_not_computed():
    assert DiTConfig(**GIVEN, mlp_ratio=1e308).mlp_ratio == 1e308


def test_plugin_and_config_do_not_import_torch():
    code = "import sys, goembed_dit.plugin, goembed_dit.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
