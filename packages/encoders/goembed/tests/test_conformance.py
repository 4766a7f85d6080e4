"""What every encoder and every forward model has to hold to."""

import importlib.util
from pathlib import Path

import pytest
from goembed_core.testing import parametrize_encoder, parametrize_forward_model
from goembed_encoder.config import EncodingConfig, GOEmbedConfig
from goembed_encoder.encoder import GOEmbed, from_config


def beside(name):
    """A module beside this one, which is no package."""
    spec = importlib.util.spec_from_file_location(f"conforming_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs(package):
    """Skip where a package is not installed that this one can be used without."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@parametrize_encoder(lambda: GOEmbed(beside("worlds").Linear(), EncodingConfig()))
def test_through_a_linear_model(check):
    check()


@parametrize_encoder(
    lambda: GOEmbed(beside("worlds").Network(), EncodingConfig(steps=3, timesteps=1000, chunk_views=2))
)
def test_through_a_network_in_chunks(check):
    check()


@needs("goembed_nerf_renderer")
@parametrize_encoder(
    lambda: GOEmbed(beside("voxels").Voxels(), EncodingConfig(steps=2, views="mean", scale_dims=(1, 2)))
)
def test_through_a_renderer(check):
    check()


@needs("goembed_stylegan_synth")
@parametrize_encoder(lambda: from_config(GOEmbedConfig(forward_model="stylegan")))
def test_through_a_gan(check):
    check()


@needs("goembed_nerf_renderer")
@parametrize_forward_model(lambda: beside("voxels").Voxels())
def test_the_voxels_of_these_tests(check):
    check()
