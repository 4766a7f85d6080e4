"""Settings: frozen models that forbid unknown keys, and how they are put together from presets, files and overrides."""

from goembed_core.config.base import Config
from goembed_core.config.components import ComponentConfig, component, validate_component, validate_params
from goembed_core.config.models import OptimizerConfig, RunConfig, TaskConfig, TrainConfig
from goembed_core.config.resolve import (
    Resolved,
    dump_yaml,
    resolve,
    resolve_evaluation,
    resolve_model,
    resolve_run,
    run_task,
    told_what_is_missing,
)
from goembed_core.errors import ConfigError

__all__ = [
    "ComponentConfig",
    "Config",
    "ConfigError",
    "OptimizerConfig",
    "Resolved",
    "RunConfig",
    "TaskConfig",
    "TrainConfig",
    "component",
    "dump_yaml",
    "resolve",
    "resolve_evaluation",
    "resolve_model",
    "resolve_run",
    "run_task",
    "told_what_is_missing",
    "validate_component",
    "validate_params",
]
