"""The methods that are compared: encodings of some numbers of steps, and unprojection."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_encoder.config import GOEmbedConfig
from goembed_encoder.encoder import GOEmbed
from goembed_nerf_renderer.cameras import random_pixels
from goembed_triplane.config import FactoredConfig, TriplaneConfig

from goembed_fusion.config import PlenopticEncodingConfig, UnprojectionConfig
from goembed_fusion.unprojection import Unprojection, gridded

Method = GOEmbed | Unprojection


class Model(NamedTuple):
    """What a run has trained."""

    methods: dict[str, Method]
    facts: dict[str, Any]

    @property
    def best(self) -> str:
        """The encoding of the most steps."""
        return name_of(max(self.facts["steps"]))


def name_of(steps: int, detached: bool = False) -> str:
    """What an encoding is called: `steps3`, `detached3`."""
    return f"{'detached' if detached else 'steps'}{steps}"


def encoding_config(config: PlenopticEncodingConfig, steps: int, detached: bool) -> GOEmbedConfig:
    """An encoding of a task; every channel has a scale of its own, in planes that of each."""
    planes = isinstance(config.forward_model.settings, TriplaneConfig | FactoredConfig)
    return GOEmbedConfig(
        forward_model=config.forward_model,
        steps=steps,
        gain=config.gain,
        detach=detached,
        scale_dims=(1, 2) if planes else (1,),
    )


def parts_of(config: PlenopticEncodingConfig) -> dict[str, tuple[str, Any]]:
    """The name and settings of each method's encoder; no unprojection where the signal has no places."""
    kinds = (False, True) if config.detached else (False,)
    parts: dict[str, tuple[str, Any]] = {
        name_of(steps, detached): ("goembed", encoding_config(config, steps, detached))
        for detached in kinds
        for steps in config.steps
    }
    if gridded(config.forward_model.settings):
        parts["unprojection"] = ("unprojection", UnprojectionConfig(forward_model=config.forward_model))
    return parts


def build(config: PlenopticEncodingConfig) -> dict[str, Method]:
    """All methods, whose decoders begin with the same weights."""
    methods: dict[str, Method] = {}
    for name, (kind, settings) in parts_of(config).items():
        torch.manual_seed(config.train.seed)
        forward_model = config.forward_model.build()
        methods[name] = GOEmbed(forward_model, settings) if kind == "goembed" else Unprojection(forward_model)
    return methods


def embed(method: Method, sources: Observations, rays: int | None = None, random: ItemRandom | None = None) -> Any:
    """The signal that a method makes of whole images.

    **Arguments:**
    - `rays`: pixels of each view that a gradient step looks at, drawn by `random`; None for all.
    """
    if isinstance(method, Unprojection):
        return method.signal(sources)
    if rays is None:
        return method.signal(sources)
    return method.signal(sources, draw=lambda seen, drawn: random_pixels(seen, rays, drawn), random=random)


def save(directory: Path, config: PlenopticEncodingConfig, methods: dict[str, Method], facts: dict[str, Any]) -> None:
    """Write the run's model directory."""
    parts = {
        name: Part("encoder", kind, settings, methods[name]) for name, (kind, settings) in parts_of(config).items()
    }
    save_pretrained(directory, parts, {"task": "plenoptic_encoding", "steps": list(config.steps), **facts})


def load(directory: Path, device: torch.device | str = "cpu") -> Model:
    """Read it again.

    **Raises:** UserError for a model of another task.
    """
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != "plenoptic_encoding":
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of 'plenoptic_encoding'")
    return Model(parts, facts)
