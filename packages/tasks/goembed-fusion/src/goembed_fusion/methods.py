"""The methods that are compared: encodings of some numbers of steps, unprojection, and each with a transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from goembed_core.config import ComponentConfig
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import tree_map
from goembed_encoder.config import GOEmbedConfig
from goembed_encoder.encoder import GOEmbed
from goembed_nerf_renderer.cameras import random_pixels
from goembed_triplane.config import FactoredConfig, TriplaneConfig, VoxelsConfig

from goembed_fusion.config import (
    ExperimentConfig,
    NetworkConfig,
    PlaneTransformerConfig,
    PlenopticEncodingConfig,
    SparseViewReconstructionConfig,
    UnprojectionConfig,
    VoxelTransformerConfig,
    rivals,
)
from goembed_fusion.grids import GridTransformer
from goembed_fusion.transformer import PlaneTransformer
from goembed_fusion.unprojection import Unprojection, gridded
from goembed_fusion.volume import VoxelTransformer

Method = GOEmbed | Unprojection | GridTransformer
Named = dict[str, ComponentConfig]  # encoders, by what the figures call them


class Model(NamedTuple):
    """What a run has trained."""

    methods: dict[str, Method]
    facts: dict[str, Any]

    @property
    def best(self) -> str:
        """The encoding of the most steps."""
        return name_of(max(self.facts["steps"]))

    def embed(self, name: str, sources: Observations) -> Any:
        """The signal that one of the methods makes of whole images."""
        return embed(self.methods[name], sources, self.facts["most_sources"])


def name_of(steps: int, kind: str = "steps") -> str:
    """What an encoding is called: `steps3`; `detached3`; `linear3`, of another un-patching."""
    return f"{kind}{steps}"


def encoders_of(config: ExperimentConfig) -> Named:
    """The encoder of each method, with its settings.

    No unprojection where the signal has no places.
    """
    most = max(config.steps)
    if isinstance(config, SparseViewReconstructionConfig):
        plain = _encodings(config, detached=False) | _unprojection(config)
        found = {name: _transformed(encoder, config.network) for name, encoder in plain.items()}
        for other in config.compare_unpatching:
            network = config.network.model_copy(update={"unpatch": other})
            found[name_of(most, other)] = _transformed(plain[name_of(most)], network)
        if config.compare_plain:
            found[name_of(most, "plain")] = plain[name_of(most)]
    else:
        detached = isinstance(config, PlenopticEncodingConfig) and config.detached
        also = _encodings(config, detached=True) if detached else {}
        also = {name.replace("steps", "detached"): encoder for name, encoder in also.items()}
        found = _encodings(config, detached=False) | also | _unprojection(config)
    for name, other in rivals(config).items():
        found[name] = encoders_of(other)[name_of(max(other.steps))]
    return found


def build(config: ExperimentConfig) -> dict[str, Method]:
    """All methods, whose decoders and transformers begin with the same weights."""
    return {name: _build(config.train.seed, encoder) for name, encoder in encoders_of(config).items()}


def embed(method: Method, sources: Observations, most: int) -> Any:
    """The signal that a method makes of whole images.

    **Arguments:**
    - `most`: views that were encoded together in training.  An encoding that is a sum over views has each weigh
      `most` over their number of more, so that it is no larger than what its decoder has learned.
    """
    encoder = method.encoder if isinstance(method, GridTransformer) else method
    views = sources.values.shape[1]
    if isinstance(encoder, Unprojection) or encoder.config.views == "mean" or views <= most:
        return method.signal(sources)
    return method.signal(sources, mask=sources.values.new_full(sources.values.shape[:2], most / views))


def embed_some(method: Method, sources: Observations, rays: int | None, random: ItemRandom) -> Any:
    """The same in training.

    **Arguments:**
    - `rays`: pixels of each view that a gradient step looks at, drawn by `random`; None for all.  A first step that
      takes the forward model's shortcut looks at all of them.
    """
    encoder = method.encoder if isinstance(method, GridTransformer) else method
    settings: dict[str, Any] = {}
    if not isinstance(encoder, Unprojection) and rays is not None:
        first = 1 if method.forward_model.alike_at_origin else 0

        def some(seen: Observations, drawn: ItemRandom, step: int) -> Observations:
            return random_pixels(seen, rays, drawn) if step >= first else seen

        settings = {"draw": some, "random": random}
    if encoder is method or any(parameter.requires_grad for parameter in encoder.parameters()):
        return method.signal(sources, **settings)
    with torch.no_grad():  # nothing of the encoding learns
        origin = method.forward_model.origin(len(sources.values), sources.values.device)
        encoded = encoder(sources, **settings)
    return tree_map(torch.add, origin, method.refine(encoded))


def save(directory: Path, config: ExperimentConfig, methods: dict[str, Method], facts: dict[str, Any]) -> None:
    """Write the run's model directory."""
    parts = {
        name: Part("encoder", encoder.name, encoder.settings, methods[name])
        for name, encoder in encoders_of(config).items()
    }
    about = {"task": config.task, "steps": list(config.steps), "most_sources": config.draw.sources[1]}
    about["against"] = list(rivals(config))
    save_pretrained(directory, parts, about | facts)


def load(directory: Path, task: str, device: torch.device | str = "cpu") -> Model:
    """Read it again.

    **Raises:** UserError for a model of another task.
    """
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != task:
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of {task!r}")
    return Model(parts, facts)


def _encodings(config: ExperimentConfig, detached: bool) -> Named:
    """Every channel has a scale of its own, in planes that of each."""
    planes = isinstance(config.forward_model.settings, TriplaneConfig | FactoredConfig)
    return {
        name_of(steps): _encoder(
            "goembed",
            GOEmbedConfig(
                forward_model=config.forward_model,
                steps=steps,
                gain=config.gain / steps,
                leaf_gain={name: gain / steps for name, gain in config.leaf_gain.items()},
                views=config.views,
                detach=detached,
                scale_dims=(1, 2) if planes else (1,),
            ),
        )
        for steps in config.steps
    }


def _unprojection(config: ExperimentConfig) -> Named:
    if not gridded(config.forward_model.settings):
        return {}
    settings = UnprojectionConfig(forward_model=config.forward_model, gain=config.gain)
    return {"unprojection": _encoder("unprojection", settings)}


def _transformed(encoder: ComponentConfig, network: NetworkConfig) -> ComponentConfig:
    shared = network.model_dump(exclude={"width", "unpatch"})
    if isinstance(encoder.settings.forward_model.settings, VoxelsConfig):
        return _encoder("voxel-transformer", VoxelTransformerConfig(encoder=encoder, width=network.width, **shared))
    return _encoder("plane-transformer", PlaneTransformerConfig(encoder=encoder, unpatch=network.unpatch, **shared))


def _encoder(name: str, settings: Any) -> ComponentConfig:
    return ComponentConfig(name=name).of_kind("encoder").resolved(settings)


def _build(seed: int, encoder: ComponentConfig) -> Method:
    settings = encoder.settings
    if isinstance(settings, PlaneTransformerConfig | VoxelTransformerConfig):
        inner = _build(seed, settings.encoder)
        torch.manual_seed(seed + 1)
        network = PlaneTransformer if isinstance(settings, PlaneTransformerConfig) else VoxelTransformer
        return network(inner, settings)
    torch.manual_seed(seed)
    forward_model = settings.forward_model.build()
    if isinstance(settings, UnprojectionConfig):
        return Unprojection(forward_model, settings.gain)
    return GOEmbed(forward_model, settings)
