"""What every forward model has to hold to; the loops of the oracle are its answer."""

import importlib.util
from pathlib import Path

from goembed_core.testing import parametrize_forward_model
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.renderer import VolumeRenderer

BOX = {"low": (-0.7, -0.8, -0.9), "high": (0.9, 0.8, 0.7)}
EVEN = RendererConfig(samples=12, proposal_samples=(), background="learned")
PROPOSED = RendererConfig(samples=10, proposal_samples=(12, 8), spacing="disparity", background="white")
CHUNKED = RendererConfig(samples=12, proposal_samples=(), chunk_points=100, box=BOX, view_dependent=False)


def oracle(model, signal, params):
    """The module beside this one, which is no package."""
    spec = importlib.util.spec_from_file_location("nerf_renderer_oracle", Path(__file__).with_name("oracle.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render(model, signal, params)


@parametrize_forward_model(lambda: VolumeRenderer(EVEN), oracle=oracle)
def test_even_samples_conform(check):
    check()


@parametrize_forward_model(lambda: VolumeRenderer(PROPOSED), oracle=oracle)
def test_proposed_samples_conform(check):
    check()


@parametrize_forward_model(lambda: VolumeRenderer(CHUNKED), oracle=oracle)
def test_a_box_in_chunks_conforms(check):
    check()
