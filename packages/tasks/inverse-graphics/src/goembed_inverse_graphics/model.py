"""Everything that samples scenes: renderer, denoiser, schedule; built, saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from goembed_core.config import ComponentConfig, ConfigError
from goembed_core.config.solvers import ScheduleConfig
from goembed_core.diffusion import DFM, Split, Terms, split_views
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.schedule import NoiseSchedule
from goembed_core.trees import concatenate, select_views
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_pixel_aligned.config import SceneDenoiserConfig
from goembed_pixel_aligned.denoiser import SceneDenoiser, guide
from torch import nn

from goembed_inverse_graphics.config import InverseGraphicsConfig, ViewsConfig
from goembed_inverse_graphics.losses import Scoring
from goembed_inverse_graphics.view import SceneView

SHARED = ("near", "far", "box", "background")  # of the forward model, and so of the estimate's renderer


class Model(NamedTuple):
    """Everything that samples."""

    forward_model: SceneView
    denoiser: SceneDenoiser
    schedule: NoiseSchedule
    dataset: ComponentConfig  # of the scenes that it was trained on
    views: ViewsConfig
    images_seen: int
    stage: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        network = self.denoiser.config.target.network
        return network.height, network.width


class Training(nn.Module):
    """The losses of both stages."""

    def __init__(self, config: InverseGraphicsConfig, model: Model):
        super().__init__()
        self.scoring = Scoring(config.score, model.forward_model.renderer)
        self.dfm = DFM(
            model.forward_model,
            model.denoiser,
            model.schedule,
            context_dropout=config.context_dropout,
            scored=self.scoring.choose,
            look=self.scoring.look,
            guide=guide,
        )

    def dfm_losses(self, split: Split, random: ItemRandom) -> Terms:
        """DFM eqs. 4, 5, 8 and 9, with the terms of `Scoring`."""
        terms = self.dfm.losses(split, random)
        if "novel" in terms.losses:
            terms.losses["novel"] = self.scoring.config.novel * terms.losses["novel"]
        return terms

    def pixelnerf_losses(self, split: Split, random: ItemRandom) -> Terms:
        """The squared error of the deterministic estimate in target and novel views."""
        estimate = self.dfm.denoiser.estimate(self.dfm.denoiser.encode(split.context))
        parts = [part for part in (split.target, split.novel) if part is not None]
        scored = concatenate([self.scoring.choose(part, random) for part in parts], 1)
        return Terms({"estimate": self.scoring.estimate_error(estimate, scored, random)})


def trained_part(denoiser: SceneDenoiser, config: InverseGraphicsConfig, stage: str) -> nn.Module:
    """What a stage moves: the estimate and the encoder of its context, or what has gradients of DFM's losses."""
    estimate = {"context_encoder": denoiser.context_encoder, "estimate_field": denoiser.estimate_field}
    correction = {"target_encoder": denoiser.target_encoder, "field": denoiser.field}
    if stage == "pixelnerf":
        return nn.ModuleDict(estimate)
    alone = denoiser.config.estimate.corrected and not config.score.estimate
    return nn.ModuleDict(correction) if alone else denoiser


def stages(config: InverseGraphicsConfig) -> dict[str, int]:
    """The stages that take turns in a training, each in every so manieth step."""
    if config.stage == "pixelnerf":
        return {"pixelnerf": 1}
    estimate = config.dfm_every > 1 or not config.score.estimate  # else it learns by DFM's losses alone
    return ({"pixelnerf": 1} if estimate else {}) | {"dfm": config.dfm_every}


def split_scene(scene: Observations, config: ViewsConfig, random: ItemRandom) -> Split:
    """Context, target and, where there are views left, a novel one; drawn for each scene. Values become [-1, 1].

    With `score_context` the context is among the novel views as well.  With `most_context` the number of its views is
    drawn for the batch, by its first item.
    """
    count = config.context
    if config.most_context is not None:
        drawn = ItemRandom(random.seed, random.items[:1], "views of the context")  # on the CPU, which has to know it
        count += int(drawn.randint(0, config.most_context - count + 1))
    scene = scene._replace(values=2 * scene.values - 1)
    views = scene.values.shape[1]
    most = config.most_context or config.context
    if views < most + 1:
        raise UserError(f"scenes of {views} views for {most} of context and a target: set dataset.views")
    num_novel = min(1, views - count - 1)
    if config.first_is_context:
        first, rest = select_views(scene, slice(0, 1)), select_views(scene, slice(1, None))
        split = split_views(rest, count - 1, 1, num_novel, random)
        split = split._replace(context=concatenate([first, split.context], 1))
    else:
        split = split_views(scene, count, 1, num_novel, random)
    if config.score_context:
        known = [split.context] if split.novel is None else [split.novel, split.context]
        split = split._replace(novel=concatenate(known, 1))
    return split


def held_out(dataset: ComponentConfig, **changed: Any) -> ComponentConfig:
    """The scenes of the same set that are not trained on, with some settings changed."""
    return dataset.resolved(dataset.settings.model_copy(update={"split": "test", **changed}))


def build(config: InverseGraphicsConfig) -> Model:
    """An untrained model, or one with the weights of `init`; ConfigError where parts do not fit."""
    denoiser = placed_denoiser(config).build()
    if config.init is not None:
        _begin_from(denoiser, config.init)
    return _assemble(
        config.forward_model.build(), denoiser, config.schedule, config.dataset, config.views, 0, config.stage
    )


def placed_denoiser(config: InverseGraphicsConfig) -> ComponentConfig:
    """The denoiser's section with the forward model's distances, box and background for its estimate."""
    seen, settings = config.forward_model.settings, config.denoiser.settings
    if not isinstance(seen, RendererConfig):
        raise ConfigError(f"forward_model.name={config.forward_model.name}: expected nerf-renderer")
    if not isinstance(settings, SceneDenoiserConfig):
        raise ConfigError(f"denoiser.name={config.denoiser.name}: expected pixel-aligned")
    network, size = settings.target.network, getattr(config.dataset.settings, "size", None)
    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and tuple(sides) != (network.width, network.height):
        raise ConfigError(
            f"dataset.size={size}: the encoders of context and target are for {network.width} x {network.height} "
            f"pixels; make these equal"
        )
    renderer = settings.renderer.model_copy(update={key: getattr(seen, key) for key in SHARED})
    return config.denoiser.resolved(settings.model_copy(update={"renderer": renderer}))


def save(directory: Path, config: InverseGraphicsConfig, denoiser: nn.Module, images_seen: int) -> None:
    """Write the denoiser, and the settings of everything else, as a model directory."""
    seen, section = config.forward_model, placed_denoiser(config)
    parts = {
        "forward_model": Part(seen.kind, seen.name, seen.settings, module=None),
        "denoiser": Part(section.kind, section.name, section.settings, denoiser),
    }
    facts = {
        "task": config.task, "stage": config.stage, "images_seen": images_seen,
        "schedule": config.schedule.model_dump(), "views": config.views.model_dump(),
        "dataset": config.dataset.model_dump(mode="json"),
    }  # fmt: skip
    save_pretrained(directory, parts, facts)


def load(directory: Path, device: torch.device | str = "cpu") -> Model:
    """The model of a directory."""
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != "inverse_graphics":
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of 'inverse_graphics'")
    return _assemble(
        parts["forward_model"], parts["denoiser"], ScheduleConfig(**facts["schedule"]),
        ComponentConfig(**facts["dataset"]).of_kind("dataset"), ViewsConfig(**facts["views"]), facts["images_seen"],
        facts["stage"],
    )  # fmt: skip


def _assemble(
    renderer: VolumeRenderer,
    denoiser: SceneDenoiser,
    schedule: ScheduleConfig,
    dataset: ComponentConfig,
    views: ViewsConfig,
    images_seen: int,
    stage: str,
) -> Model:
    return Model(SceneView(renderer), denoiser, NoiseSchedule(schedule), dataset, views, images_seen, stage)


def _begin_from(denoiser: SceneDenoiser, directory: Path) -> None:
    """The weights of another model; from one of stage pixelnerf a sampled field by itself begins as the estimate's."""
    other = load(directory.expanduser())
    state = other.denoiser.state_dict()
    if other.stage == "pixelnerf":
        state = {key: value for key, value in state.items() if not key.startswith(("field.", "target_encoder."))}
        for key, value in denoiser.field.state_dict().items():
            learnt = state.get(f"estimate_field.{key}", value)
            if key.startswith("out."):
                learnt = learnt[: len(value)]
            state[f"field.{key}"] = value if denoiser.config.estimate.corrected else learnt
        kept = denoiser.target_encoder.state_dict()
        state |= {f"target_encoder.{key}": value for key, value in kept.items()}
    own = denoiser.state_dict()
    wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
    wrong += sorted(state.keys() - own.keys())
    if wrong:
        raise UserError(
            f"init={directory}: its weights do not fit this denoiser ({', '.join(wrong[:3])}); give both the same "
            f"settings under denoiser"
        )
    denoiser.load_state_dict(state)
