"""What every forward model has to hold to, of each representation."""

from __future__ import annotations

from goembed_core.testing import parametrize_forward_model
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
