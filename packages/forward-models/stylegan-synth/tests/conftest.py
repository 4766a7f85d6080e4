"""What the tests share: the oracle, and a small generator whose every parameter matters."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from goembed_stylegan_synth.config import GeneratorConfig
from goembed_stylegan_synth.networks import Generator
from goembed_stylegan_synth.weights import build_generator, save_generator

torch.set_num_threads(1)

SMALL = GeneratorConfig(
    resolution=16, z_dim=6, w_dim=5, mapping_layers=2, channel_base=64, channel_max=8, conv_clamp=None
)


def load_beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"stylegan_synth_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_generator(config: GeneratorConfig = SMALL, seed: int = 0) -> Generator:
    """Random weights; also where training starts from zeros, so that a missing term shows."""
    torch.manual_seed(seed)
    generator = build_generator(config)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(0.3 * torch.randn_like(parameter))
        generator.mapping.w_avg.normal_(std=0.2)
    return generator


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    return load_beside("oracle")


@pytest.fixture(scope="session")
def checkpoints() -> ModuleType:
    return load_beside("checkpoints")


@pytest.fixture
def small_config() -> GeneratorConfig:
    return SMALL


@pytest.fixture
def generator() -> Generator:
    return make_generator()


@pytest.fixture
def new_generator():
    return make_generator


@pytest.fixture
def weights(tmp_path, generator) -> str:
    """A file of the small generator."""
    path = tmp_path / "small.safetensors"
    save_generator(path, generator, SMALL, {"data": "random"})
    return str(path)
