"""Stochastic inverse problems with a differentiable forward model: protocols, plugin host, training, sampling."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goembed_core.config import (
        ComponentConfig,
        Config,
        OptimizerConfig,
        TaskConfig,
        TrainConfig,
        component,
        resolve,
    )
    from goembed_core.errors import ConfigError, PluginError, UserError
    from goembed_core.plugins import Register, build, hookimpl, host
    from goembed_core.protocols import Denoiser, Encoder, FeatureNetwork, ForwardModel, GradientOrigin, Observations
    from goembed_core.randomness import ItemRandom

# Where each public name lives; imported on first use, as torch takes seconds to import.
_HOMES = {
    "ComponentConfig": "config",
    "Config": "config",
    "OptimizerConfig": "config",
    "TaskConfig": "config",
    "TrainConfig": "config",
    "component": "config",
    "resolve": "config",
    "ConfigError": "errors",
    "PluginError": "errors",
    "UserError": "errors",
    "Register": "plugins",
    "build": "plugins",
    "hookimpl": "plugins",
    "host": "plugins",
    "Denoiser": "protocols",
    "Encoder": "protocols",
    "FeatureNetwork": "protocols",
    "ForwardModel": "protocols",
    "GradientOrigin": "protocols",
    "Observations": "protocols",
    "ItemRandom": "randomness",
}

__all__ = [
    "ComponentConfig",
    "Config",
    "ConfigError",
    "Denoiser",
    "Encoder",
    "FeatureNetwork",
    "ForwardModel",
    "GradientOrigin",
    "ItemRandom",
    "Observations",
    "OptimizerConfig",
    "PluginError",
    "Register",
    "TaskConfig",
    "TrainConfig",
    "UserError",
    "build",
    "component",
    "hookimpl",
    "host",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
