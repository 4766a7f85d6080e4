"""The trained model: forward model, DFM and baseline, built from settings or read from a directory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from goembed_core.config import ConfigError
from goembed_core.config.solvers import ScheduleConfig
from goembed_core.diffusion import DFM
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.schedule import NoiseSchedule
from torch import nn

from goembed_deepinv.config import TomographyConfig, ViewsConfig
from goembed_deepinv.forward import Projections
from goembed_deepinv.problem import ProjectionDenoiser, Regressor


class Model(NamedTuple):
    """Everything that answers a sinogram."""

    forward_model: Projections
    dfm: DFM
    regressor: Regressor
    views: ViewsConfig
    images_seen: int


def build(config: TomographyConfig) -> Model:
    """An untrained model; ConfigError when forward model and network do not fit."""
    forward_model = config.forward_model.build()
    if not isinstance(forward_model, Projections):
        raise ConfigError(
            f"forward_model: {type(forward_model).__name__} has no angles that vary; task=tomography needs "
            "forward_model=deepinv with operator=Tomography and no parameters.angles"
        )
    channels, height, width = forward_model.config.signal_shape
    wanted = {"in_channels": 2 * channels, "height": height, "width": width, "out_channels": channels}
    settings = config.denoiser.settings.model_dump()
    wrong = {key: value for key, value in wanted.items() if settings.get(key, value) != value}
    if wrong:
        given = ", ".join(f"denoiser.{key}={settings[key]}" for key in wrong)
        needed = " ".join(f"denoiser.{key}={value}" for key, value in wrong.items())
        raise ConfigError(
            f"{given}: the images are {channels} x {height} x {width}, and two back-projections go in; say {needed}"
        )
    networks = (config.denoiser.build(), config.denoiser.build())
    return _assemble(forward_model, *networks, config.schedule, config.views, 0)


def save(directory: Path, config: TomographyConfig, dfm: nn.Module, deterministic: nn.Module, images_seen: int) -> None:
    """Write the two networks, and the settings of everything else, as a model directory."""
    denoiser = (config.denoiser.kind, config.denoiser.name, config.denoiser.settings)
    operator = (config.forward_model.kind, config.forward_model.name, config.forward_model.settings)
    parts = {
        "operator": Part(*operator, module=None),
        "dfm": Part(*denoiser, module=dfm),
        "deterministic": Part(*denoiser, module=deterministic),
    }
    facts = {
        "task": "tomography",
        "images_seen": images_seen,
        "views": config.views.model_dump(),
        "schedule": config.schedule.model_dump(),
    }
    save_pretrained(directory, parts, facts)


def load(directory: Path, device: torch.device | str = "cpu") -> Model:
    """The model of a directory."""
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != "tomography":
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of 'tomography'")
    return _assemble(
        parts["operator"], parts["dfm"], parts["deterministic"], ScheduleConfig(**facts["schedule"]),
        ViewsConfig(**facts["views"]), facts["images_seen"],
    )  # fmt: skip


def _assemble(
    forward_model: Projections,
    network: nn.Module,
    baseline: nn.Module,
    schedule: ScheduleConfig,
    views: ViewsConfig,
    images_seen: int,
) -> Model:
    dfm = DFM(forward_model, ProjectionDenoiser(network, forward_model), NoiseSchedule(schedule))
    return Model(forward_model, dfm, Regressor(ProjectionDenoiser(baseline, forward_model)), views, images_seen)
