"""What the tests share: the modules of forward models beside this one, which are no package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

torch.set_num_threads(1)


def load(name: str) -> ModuleType:
    key = f"goembed_encoder_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).with_name(f"{name}.py"))
        sys.modules[key] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[key])
    return sys.modules[key]


@pytest.fixture(scope="session")
def worlds() -> ModuleType:
    """Forward models with an origin."""
    return load("worlds")


@pytest.fixture(scope="session")
def voxels() -> ModuleType:
    """Voxels that are rendered."""
    pytest.importorskip("goembed_nerf_renderer", reason="renders, which this package itself does not")
    return load("voxels")


@pytest.fixture(params=["linear", "network", "voxels", "positioned voxels"])
def new_world(request, worlds) -> Callable[[], torch.nn.Module]:
    """Makes a forward model, in float64."""
    if request.param in ("linear", "network"):
        return getattr(worlds, request.param.title())().double
    module = request.getfixturevalue("voxels")
    return module.Voxels(positioned="positioned" in request.param).double
