"""The trained model: generator, DFM and baseline, built from settings or read from a directory."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from goembed_core.checkpoints import load_modules, module_tensors
from goembed_core.config import ConfigError
from goembed_core.config.solvers import ScheduleConfig
from goembed_core.diffusion import DFM
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.schedule import NoiseSchedule
from goembed_stylegan_synth.synthesis import StyleGANSynthesis
from torch import nn

from goembed_gan_inversion.config import GANInversionConfig, LatentConfig, PatchConfig
from goembed_gan_inversion.latents import LatentSpace, Regressor, StyleGenerator


class Model(NamedTuple):
    """Everything that samples, and the facts that a reader needs to pose the same problem again."""

    forward_model: StyleGANSynthesis
    space: LatentSpace
    dfm: DFM
    regressor: Regressor
    patch: PatchConfig
    truncation_psi: float
    images_seen: int


def build(config: GANInversionConfig) -> Model:
    """An untrained model; UserError when network and generator do not fit."""
    forward_model = config.forward_model.build(like=StyleGenerator)
    network, baseline = config.denoiser.build(), config.denoiser.build()
    space = LatentSpace(forward_model, config.latent)
    _require_fit(config, space)
    if config.initial is not None:
        parts, _ = from_pretrained(config.initial)
        load_modules({"network": network}, module_tensors({"network": parts["dfm"]}))
        load_modules({"network": baseline}, module_tensors({"network": parts["deterministic"]}))
    return _assemble(
        space, network, baseline, config.schedule, config.context_dropout, config.patch, config.truncation_psi, 0
    )  # fmt: skip


def save(
    directory: Path,
    config: GANInversionConfig,
    dfm: nn.Module,
    deterministic: nn.Module,
    images_seen: int,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the two networks, and the settings of everything else, as a model directory."""
    denoiser = (config.denoiser.kind, config.denoiser.name, config.denoiser.settings)
    generator = (config.forward_model.kind, config.forward_model.name, config.forward_model.settings)
    facts = {
        "task": config.task,
        "images_seen": images_seen,
        "latent": config.latent.model_dump(),
        "truncation_psi": config.truncation_psi,
        "patch": config.patch.model_dump(),
        "schedule": config.schedule.model_dump(),
    }
    parts = {
        "generator": Part(*generator, module=None),
        "dfm": Part(*denoiser, module=dfm),
        "deterministic": Part(*denoiser, module=deterministic),
    }
    save_pretrained(directory, parts, facts, dtype)


def load(directory: Path | None, device: torch.device | str = "cpu") -> Model:
    """The model of a directory, or the embedded one."""
    parts, facts = from_pretrained(embedded() if directory is None else directory, device=device)
    if facts.get("task") != "gan_inversion":
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of 'gan_inversion'")
    if "latent" not in facts:
        raise UserError(f"model.json of {directory} names no latent space, so an earlier version wrote it; train again")
    return _assemble(
        LatentSpace(parts["generator"], LatentConfig(**facts["latent"])), parts["dfm"], parts["deterministic"],
        ScheduleConfig(**facts["schedule"]), 0.0, PatchConfig(**facts["patch"]), facts["truncation_psi"],
        facts["images_seen"],
    )  # fmt: skip


def embedded() -> Path:
    """The directory of the model that the package carries."""
    return Path(str(files("goembed_gan_inversion") / "embedded"))


def _assemble(
    space: LatentSpace,
    network: nn.Module,
    baseline: nn.Module,
    schedule: ScheduleConfig,
    context_dropout: float,
    patch: PatchConfig,
    truncation_psi: float,
    images_seen: int,
) -> Model:
    dfm = DFM(
        space, network, NoiseSchedule(schedule), context_dropout=context_dropout,
        regularise=lambda signal, scored, estimates: space.penalties(signal),
    )  # fmt: skip
    return Model(space.forward_model, space, dfm, Regressor(baseline, space), patch, truncation_psi, images_seen)


def _require_fit(config: GANInversionConfig, space: LatentSpace) -> None:
    """The shapes that the generator asks of the denoiser's settings, all of them in one error."""
    settings: dict[str, Any] = config.denoiser.settings.model_dump()
    forward_model = space.forward_model
    wanted = {
        "in_channels": 2 * forward_model.img_channels + 1,  # masked image, mask, noisy target
        "height": forward_model.resolution,
        "width": forward_model.resolution,
        "vector_dim": space.size,
    }
    wrong = {key: value for key, value in wanted.items() if key in settings and settings[key] != value}
    if wrong:
        given = ", ".join(f"denoiser.{key}={settings[key]}" for key in wrong)
        needed = " ".join(f"denoiser.{key}={value}" for key, value in wrong.items())
        raise ConfigError(
            f"{given}: the generator's images are {forward_model.img_channels} x {forward_model.resolution} x "
            f"{forward_model.resolution} and its latents of {space.size} numbers; say {needed}"
        )
    if config.latent.space in ("z", "z+") and settings.get("head_std") == 0:
        raise ConfigError(
            f"denoiser.head_std=0: the network would start at z = 0, which has no direction for latent.space="
            f"{config.latent.space}; say denoiser.head_std=0.02"
        )
