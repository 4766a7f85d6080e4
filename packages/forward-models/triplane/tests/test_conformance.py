"""What every forward model has to hold to, of each representation."""

from __future__ import annotations

import pytest
import torch
from goembed_core import plugins
from goembed_core.testing import check_radiance_field, parametrize_forward_model
from goembed_triplane.config import (
    DecoderConfig,
    FactoredModelConfig,
    FieldRendererConfig,
    SirenModelConfig,
    TriplaneModelConfig,
    VoxelsModelConfig,
)
from goembed_triplane.model import SceneModel

EVEN = FieldRendererConfig(samples=8)
# what is told to be compiled takes seconds to check: one does
CHUNKED = FieldRendererConfig(samples=8, chunk_points=50, background="learned", view_dependent=False)
SHIFTED = {"low": (0.5, -1.0, -0.7), "high": (1.5, 0.4, 0.9)}
SEEN = DecoderConfig(hidden_size=8, harmonics=1, position_frequencies=2)


@parametrize_forward_model(lambda: SceneModel(TriplaneModelConfig(resolution=5, channels=3, renderer=EVEN)))
def test_a_triplane_conforms(check):
    check()


@parametrize_forward_model(
    lambda: SceneModel(
        TriplaneModelConfig(resolution=4, channels=2, combine="concat", renderer=EVEN, box=SHIFTED, decoder=SEEN)
    )
)
def test_a_triplane_side_by_side_seen_from_all_sides_conforms(check):
    check()


@parametrize_forward_model(lambda: SceneModel(VoxelsModelConfig(resolution=4, channels=3, renderer=CHUNKED)))
def test_voxels_in_chunks_conform(check):
    check()


@parametrize_forward_model(
    lambda: SceneModel(VoxelsModelConfig(resolution=4, channels=2, renderer=CHUNKED, learned_origin=True))
)
def test_voxels_whose_origin_is_learned_conform(check):
    check()


@parametrize_forward_model(lambda: SceneModel(FactoredModelConfig(resolution=4, channels=2, renderer=CHUNKED)))
def test_a_product_conforms(check):
    check()


@parametrize_forward_model(
    lambda: SceneModel(FactoredModelConfig(resolution=4, channels=2, combine="sum", renderer=CHUNKED))
)
def test_a_sum_conforms(check):
    check()


@parametrize_forward_model(lambda: SceneModel(SirenModelConfig(hidden_size=6, channels=3, renderer=CHUNKED)))
def test_a_network_of_sines_conforms(check):
    check()


@pytest.mark.parametrize("name", ["triplane", "voxels", "factored", "siren"])
def test_one_scene_in_each_representation_conforms(name):
    torch.manual_seed(0)
    settings = {"box": {}, "occupancy_cells": 4, "decoder": {"hidden_size": 8, "harmonics": 1}}
    settings |= {"hidden_size": 8} if name == "siren" else {"resolution": 5, "channels": 3}
    check_radiance_field(lambda: plugins.build("radiance-field", name, settings))
