"""What the tests share: the slow painter of procedural frames."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def load_beside(name: str) -> ModuleType:
    """A helper module of this folder; pytest's importlib mode leaves folders of tests off the path."""
    spec = importlib.util.spec_from_file_location(f"{__name__}_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def painting() -> ModuleType:
    return load_beside("painting")
