"""Denoiser, regression and schedule: built, trained, saved, loaded."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from goembed_core.config import ConfigError
from goembed_core.config.solvers import ScheduleConfig
from goembed_core.diffusion import DFM, Split, Terms, squared_error
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.schedule import NoiseSchedule
from goembed_core.trees import concatenate
from goembed_nerf_renderer.cameras import random_pixels
from jaxtyping import Float
from torch import Tensor, nn

from goembed_fusion.generation.config import (
    GOEmbedFusionConfig,
    PlaneDenoiserConfig,
    RolesConfig,
    VoxelDenoiserConfig,
)
from goembed_fusion.generation.grids import GridDenoiser, Thinned
from goembed_fusion.generation.voxels import VoxelDenoiser
from goembed_fusion.scenes import Scenes
from goembed_fusion.trained import take_encoding

TASK = "goembed_fusion"
PRIOR_OBJECTS = 64


class SceneView(nn.Module):
    """`O = 2 forward(ζ, φ) − 1`: images in [-1, 1], as diffusion has them."""

    def __init__(self, forward_model: nn.Module):
        super().__init__()
        self.forward_model = forward_model

    def forward(self, signal: Any, params: Any) -> Float[Tensor, "batch views 3 *shape"]:
        """What is seen of planes."""
        return 2 * self.forward_model(signal, params) - 1


class Model(NamedTuple):
    """What a run has trained."""

    denoiser: GridDenoiser
    regression: GridDenoiser | None
    schedule: NoiseSchedule
    views: RolesConfig
    facts: dict[str, Any]


def build(config: GOEmbedFusionConfig) -> dict[str, GridDenoiser]:
    """The denoiser and, where it is wanted, the regression, which begins with the same weights.

    **Raises:** ConfigError for parts that do not fit each other.
    """
    settings = config.denoiser.settings
    if isinstance(settings, PlaneDenoiserConfig):
        known = getattr(settings.encoder.settings, "timesteps", None)
        if known != config.schedule.num_timesteps:
            raise ConfigError(
                f"denoiser.encoder.timesteps={known} and schedule.num_timesteps={config.schedule.num_timesteps}: make "
                f"these equal"
            )
    elif isinstance(settings, VoxelDenoiserConfig):
        for key in ("num_timesteps", "betas"):
            own, other = getattr(settings.schedule, key), getattr(config.schedule, key)
            if own != other:
                raise ConfigError(f"denoiser.schedule.{key}={own} and schedule.{key}={other}: make these equal")
    else:
        raise ConfigError(f"denoiser.name={config.denoiser.name}: expected plane-denoiser or voxel-denoiser")
    found = {}
    for name in ("denoiser", "regression")[: 1 + config.regression]:
        torch.manual_seed(config.train.seed)
        found[name] = config.denoiser.build()
        if config.encodings is not None:
            take_encoding(found[name].encoder, f"the {name}", config.encodings)
    return found


def begin(networks: dict[str, GridDenoiser], scenes: Scenes, roles: RolesConfig) -> None:
    """Give networks that have a prior that of the first objects, each of as many views as are given at most."""
    device = next(next(iter(networks.values())).parameters()).device
    objects = torch.arange(min(PRIOR_OBJECTS, len(scenes.images)))
    views = torch.arange(roles.context[1]).expand(len(objects), -1)
    seen = signed(scenes.views(objects, views, device))
    for network in networks.values():
        if isinstance(network, VoxelDenoiser):
            network.begin(seen)


def save(directory: Path, config: GOEmbedFusionConfig, networks: dict[str, nn.Module], facts: dict[str, Any]) -> None:
    """Write the run's model directory."""
    section = config.denoiser
    parts = {name: Part("denoiser", section.name, section.settings, module) for name, module in networks.items()}
    about = {"task": TASK, "schedule": config.schedule.model_dump(), "views": config.views.model_dump(mode="json")}
    save_pretrained(directory, parts, about | facts)


def load(directory: Path, device: torch.device | str = "cpu") -> Model:
    """Read it again.

    **Raises:** UserError for a model of another task.
    """
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != TASK:
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of {TASK!r}")
    schedule = NoiseSchedule(ScheduleConfig(**facts["schedule"]))
    return Model(parts["denoiser"], parts.get("regression"), schedule, RolesConfig(**facts["views"]), facts)


class Training:
    """What both networks learn of a batch."""

    def __init__(self, config: GOEmbedFusionConfig, networks: dict[str, GridDenoiser]):
        self.config, self.networks = config, networks
        self.schedule = NoiseSchedule(config.schedule)

    def dfm_losses(self, split: Split, random: ItemRandom) -> Terms:
        """DFM eqs. 4, 5, 8 and 9, of random pixels; a context is left out now and then."""
        denoiser = self.networks["denoiser"]
        dfm = self._dfm(functools.partial(denoiser, thinned=self._thinned(random)), denoiser.forward_model)
        return dfm.losses(split, random)

    def regression_losses(self, split: Split, random: ItemRandom) -> Terms:
        """The squared errors of the reconstruction from the context alone, in the same views."""
        network = self.networks["regression"]
        dfm = self._dfm(network, network.forward_model)
        context = dfm.drop_context(split.context, random)
        thinned = self._thinned(random)
        signal = network.regress(network.known(context, thinned), thinned)
        scored = {"target": self._scored(split.target, random)}
        if split.novel is not None:
            scored["novel"] = self._scored(split.novel, random)
        together = concatenate(list(scored.values()), 1)
        seen = dfm.forward_model(signal, together.params)
        parts = seen.split([part.values.shape[1] for part in scored.values()], 1)
        pairs = zip(scored.items(), parts, strict=True)
        return Terms({name: squared_error(part, true.values).mean() for (name, true), part in pairs})

    def _dfm(self, denoiser: Any, forward_model: nn.Module) -> DFM:
        view, dropout = SceneView(forward_model), self.config.context_dropout
        return DFM(view, denoiser, self.schedule, context_dropout=dropout, scored=self._scored)

    def _scored(self, observations: Observations, random: ItemRandom) -> Observations:
        return random_pixels(observations, self.config.views.rays, random)

    def _thinned(self, random: ItemRandom) -> Thinned | None:
        rays = self.config.views.encoded_rays
        return None if rays is None else Thinned(rays, random.stream("encoded"))


def draw(scenes: Scenes, roles: RolesConfig, random: ItemRandom, shared: ItemRandom) -> Split:
    """Objects and the roles of their views, whole images in [-1, 1].

    All items have as many views of context, a number that `shared`, of one item, draws.
    """
    low, high = roles.context
    count = int(shared.stream("context").randint(low, high + 1, 1))
    objects, views = scenes.images.shape[:2]
    chosen = random.stream("objects").randint(0, objects, 1)[:, 0]
    order = random.stream("views").rand(views).argsort(1)

    def part(begin: int, number: int) -> Observations:
        return signed(scenes.views(chosen, order[:, begin : begin + number], random.device))

    novel = part(high + roles.target, roles.novel) if roles.novel else None
    return Split(part(0, count), part(high, roles.target), novel)


def signed(observations: Observations) -> Observations:
    """Images in [0, 1] as those in [-1, 1]."""
    return observations._replace(values=2 * observations.values - 1)
