"""Nothing here runs without the package and deepinv, which the workspace does not have by itself."""

from __future__ import annotations

import importlib.util

import pytest

NEEDED = ("goembed_deepinv", "deepinv", "torchvision")
INSTALL = "uv pip install --no-config './examples/goembed-deepinv[tomography]' torch==2.13.0"


def require_example() -> None:
    """Skip a module of tests, with the command that makes it run, if anything it needs is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; {INSTALL}", allow_module_level=True)
