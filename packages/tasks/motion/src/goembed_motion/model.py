"""The denoiser of motion: what a network says of context and noisy target, as a moving image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from goembed_core.config import ComponentConfig, ConfigError
from goembed_core.config.solvers import ScheduleConfig
from goembed_core.diffusion import DFM, Split, squared_error
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.protocols import Observations
from goembed_core.schedule import NoiseSchedule
from goembed_softsplat_warp.model import SoftsplatWarp, WarpTime
from jaxtyping import Float, Num
from torch import Tensor, nn

from goembed_motion.config import MotionConfig, MotionFieldConfig
from goembed_motion.evidence import displacement_evidence, displacements
from goembed_motion.futures import MixedWarp, PossibleMotions

LOGIT_SCALE = 8.0  # of the mean over all pixels of what the network says of a future's probability
PLAIN = {"futures": 1, "evidence_radius_px": 0}  # of the baseline, which has no target to look at


class MotionDenoiser(nn.Module):
    """`S = (context, motions, metrics)` with the last two by a network of context ‖ noisy target (DFM §4.2).

    With `field.evidence_radius_px` the network is also told what the target says of each displacement, and with
    `field.futures` it answers with several motions and their probabilities.
    """

    def __init__(self, network: nn.Module, field: MotionFieldConfig, schedule: NoiseSchedule):
        super().__init__()
        self.network = network
        self.field = field
        self.schedule = schedule
        angle = 2 * torch.pi * torch.arange(field.futures) / field.futures
        length = field.spread_px if field.futures > 1 else 0.0
        self.register_buffer("beginnings", length * torch.stack([angle.cos(), angle.sin()], 1), persistent=False)

    def forward(
        self, context: Observations, noisy_target: Observations, timestep: Num[Tensor, " batch"]
    ) -> PossibleMotions:
        """The context, and how it may move."""
        field, images = self.field, context.values[:, 0]
        if field.evidence_radius_px:
            scale = self.schedule.observed_as(timestep)[0]
            evidence = displacement_evidence(
                images, noisy_target.values[:, 0], scale, field.evidence_radius_px, field.evidence_stride_px
            )
            context = context._replace(values=torch.cat([context.values, evidence[:, None]], 2))
        output = self.network(context, noisy_target, timestep).float()
        if field.futures == 1:
            probability = output.new_ones(len(output), 1)
        else:
            logits, output = output[:, : field.futures], output[:, field.futures :]
            probability = (LOGIT_SCALE * logits.mean((2, 3))).softmax(1)
        output = output.unflatten(1, (field.futures, 3))
        motion = field.scale_px * output[:, :, :2] + self.beginnings[:, :, None, None]
        return PossibleMotions(images, motion, field.metric_scale * output[:, :, 2:], probability)


class Regressor(nn.Module):
    """The deterministic baseline: the same network, losses and budget, without a noisy target, and one motion."""

    def __init__(self, denoiser: MotionDenoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, context: Observations) -> PossibleMotions:
        """The one motion that it predicts."""
        blank = context._replace(values=torch.zeros_like(context.values))
        return self.denoiser(context, blank, torch.zeros(len(context.values), device=context.values.device).long())

    def losses(self, split: Split, forward_model: nn.Module) -> dict[str, Tensor]:
        """The same terms as DFM's: eqs. 8 and 9, and the regularisers."""
        signal = self(split.context)
        scored = {"target": split.target} | ({} if split.novel is None else {"novel": split.novel})
        estimates = {name: forward_model(signal, part.params) for name, part in scored.items()}
        errors = {name: squared_error(estimates[name], part.values).mean() for name, part in scored.items()}
        return errors | Regularisers(self.denoiser.field)(signal, scored, estimates)


class Model(NamedTuple):
    """Everything that samples."""

    forward_model: SoftsplatWarp  # of one motion
    dfm: DFM
    regressor: Regressor
    dataset: ComponentConfig  # of the clips that it was trained on
    images_seen: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        config = self.dfm.denoiser.network.config
        return config.height, config.width


def split_clip(clip: Observations) -> Split:
    """Frame 0 is the context, frame 1 the target; those between are novel views, which the same signal explains."""

    def frames(part: slice) -> Observations:
        return Observations(clip.values[:, part], WarpTime(clip.params.time[:, part]))

    novel = frames(slice(2, None)) if clip.values.shape[1] > 2 else None
    return Split(frames(slice(0, 1)), frames(slice(1, 2)), novel)


def smoothness(signal: PossibleMotions, edge: float) -> Float[Tensor, ""]:
    """Edge-aware smoothness: mean |∂motion| exp(−edge |∂colour|) over neighbours in x and in y, and over what may be.

    Probabilities are not differentiated: a rough motion does not get improbable by this.
    """
    total = signal.motion.new_zeros(())
    for dim in (2, 3):
        motion, colour = torch.diff(signal.motion, dim=dim + 1).abs(), torch.diff(signal.colour, dim=dim).abs()
        rough = motion * torch.exp(-edge * colour.mean(1, keepdim=True))[:, None]
        total = total + (rough.mean((2, 3, 4)) * signal.probability.detach()).sum(1).mean()
    return total


def pyramid_error(
    estimate: Float[Tensor, "batch views channels height width"],
    values: Float[Tensor, "batch views channels height width"],
    levels: int,
) -> Float[Tensor, " batch"]:
    """Squared errors of the images at half size, a quarter and so on, added up: block means.

    The gradient of a splat in its motion reaches one pixel; pixels of lower levels are larger, and reach further.
    """
    residual, total = (estimate - values).flatten(0, 1), 0.0
    for _ in range(levels):
        residual = F.avg_pool2d(residual, 2)
        total = total + residual.unflatten(0, values.shape[:2]).square().flatten(1).mean(1)
    return total


class Regularisers(NamedTuple):
    """The terms of motion besides DFM's own: lower resolutions, and smoothness."""

    field: MotionFieldConfig

    def __call__(
        self, signal: PossibleMotions, scored: dict[str, Observations], estimates: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """`pyramid` and `smoothness`."""
        terms = {}
        if self.field.pyramid and self.field.pyramid_levels:
            errors = [pyramid_error(estimates[k], scored[k].values, self.field.pyramid_levels) for k in scored]
            terms["pyramid"] = self.field.pyramid * torch.stack(errors).sum(0).mean()
        if self.field.smoothness:
            terms["smoothness"] = self.field.smoothness * smoothness(signal, self.field.edge)
        return terms


def held_out(dataset: ComponentConfig) -> ComponentConfig:
    """The clips of the same set that are not trained on."""
    return dataset.resolved(dataset.settings.model_copy(update={"split": "test"}))


def build(config: MotionConfig) -> Model:
    """An untrained model; ConfigError where network and images do not fit."""
    forward_model = config.forward_model.build()
    _require_fit(config)
    network, baseline = config.denoiser.build(), plain_network(config).build()
    return _assemble(forward_model, network, baseline, config.field, config.schedule, config.dataset, 0)


def plain_network(config: MotionConfig) -> ComponentConfig:
    """The network of the baseline: as the denoiser's, of two images, and one motion and its metric."""
    settings = config.denoiser.settings
    update = {key: value for key, value in _channels(PLAIN).items() if key in type(settings).model_fields}
    return config.denoiser.resolved(settings.model_copy(update=update))


def _channels(field: dict[str, int]) -> dict[str, int]:
    """What goes into the network and comes out of it."""
    radius = field["evidence_radius_px"]
    evidence = len(displacements(radius, field["evidence_stride_px"])) if radius else 0
    return {"in_channels": 6 + evidence, "out_channels": 3 if field["futures"] == 1 else 4 * field["futures"]}


def save(directory: Path, config: MotionConfig, networks: dict[str, nn.Module], images_seen: int) -> None:
    """Write both networks, and the settings of everything else, as a model directory."""
    warp, components = config.forward_model, {"dfm": config.denoiser, "deterministic": plain_network(config)}
    parts = {"forward_model": Part(warp.kind, warp.name, warp.settings, module=None)}
    for name, network in networks.items():
        component = components[name]
        parts[name] = Part(component.kind, component.name, component.settings, network)
    facts = {
        "task": config.task, "images_seen": images_seen, "field": config.field.model_dump(),
        "schedule": config.schedule.model_dump(), "dataset": config.dataset.model_dump(mode="json"),
    }  # fmt: skip
    save_pretrained(directory, parts, facts)


def load(directory: Path, device: torch.device | str = "cpu") -> Model:
    """The model of a directory."""
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != "motion":
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of 'motion'")
    return _assemble(
        parts["forward_model"], parts["dfm"], parts["deterministic"], MotionFieldConfig(**facts["field"]),
        ScheduleConfig(**facts["schedule"]), ComponentConfig(**facts["dataset"]).of_kind("dataset"),
        facts["images_seen"],
    )  # fmt: skip


def _assemble(
    forward_model: SoftsplatWarp,
    network: nn.Module,
    baseline: nn.Module,
    field: MotionFieldConfig,
    schedule: ScheduleConfig,
    dataset: ComponentConfig,
    images_seen: int,
) -> Model:
    noising = NoiseSchedule(schedule)
    denoiser = MotionDenoiser(network, field, noising)
    dfm = DFM(MixedWarp(forward_model), denoiser, noising, regularise=Regularisers(field))
    regressor = Regressor(MotionDenoiser(baseline, field.model_copy(update=PLAIN), noising))
    return Model(forward_model, dfm, regressor, dataset, images_seen)


def _require_fit(config: MotionConfig) -> None:
    """What images and motion ask of the denoiser's settings, all of it in one error."""
    settings: dict[str, Any] = config.denoiser.settings.model_dump()
    size = getattr(config.dataset.settings, "size", None)
    wanted: dict[str, Any] = _channels(config.field.model_dump()) | {"head": "pixels"}
    if size is not None:
        wanted |= {"height": size, "width": size}
    wrong = {key: value for key, value in wanted.items() if key in settings and settings[key] != value}
    if wrong:
        given = ", ".join(f"denoiser.{key}={settings[key]}" for key in wrong)
        needed = " ".join(f"denoiser.{key}={value}" for key, value in wrong.items())
        evidence, futures = wanted["in_channels"] - 6, config.field.futures
        told = f", and {evidence} displacements' evidence" if evidence else ""
        says = "motion and metric 3" if futures == 1 else f"{futures} motions, metrics and probabilities 4 each"
        raise ConfigError(
            f"{given}: context and target have 3 channels of {size} x {size} each{told}; {says}; say {needed}"
        )
    if config.field.futures > 1 and settings.get("head_std") == 0 and config.field.spread_px == 0:
        raise ConfigError(
            f"denoiser.head_std=0 with field.futures={config.field.futures} and field.spread_px=0: futures that begin "
            "alike stay alike; say field.spread_px=1.5"
        )
