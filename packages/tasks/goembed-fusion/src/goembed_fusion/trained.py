"""Encodings that are trained already, behind which networks alone learn."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import get_args

from goembed_core.config import ConfigError
from goembed_core.runs import Run
from goembed_encoder.encoder import GOEmbed

from goembed_fusion import methods as models
from goembed_fusion.config import Unpatch
from goembed_fusion.grids import GridTransformer
from goembed_fusion.methods import Method

TASK = "plenoptic_encoding"
EMBEDDED = "embedded"
FACTS = {"steps", "views", "scale_dims", "leaf_gain", "timesteps"}


def embedded() -> Path:
    """The folder of what the package carries: a model, views to show it with, and credits."""
    return Path(str(files("goembed_fusion") / "embedded"))


def take_encodings(methods: dict[str, Method], source: str) -> None:
    """Give methods the encodings of a trained model, which then stay as they are.

    **Arguments:**
    - `source`: `embedded`, or the folder of a run of `plenoptic_encoding`.

    **Raises:** ConfigError for a model that lacks one of them, or has it with other settings.
    """
    trained = _trained(source)
    for name, method in methods.items():
        encoder = method.encoder if isinstance(method, GridTransformer) else method
        wanted = re.sub(rf"^({'|'.join(('plain', *get_args(Unpatch)))})(?=\d)", "steps", name)
        _take(encoder, wanted, name, trained, source)


def take_encoding(encoder: GOEmbed, name: str, source: str) -> None:
    """Give an encoder what one of as many steps has learned, which then stays as it is.

    **Arguments:**
    - `name`: what it is called where it does not fit.
    - `source`: as above.

    **Raises:** ConfigError as above.
    """
    _take(encoder, models.name_of(encoder.config.steps), name, _trained(source), source)


def _trained(source: str) -> dict[str, Method]:
    directory = embedded() / "model" if source == EMBEDDED else Run.open(Path(source), TASK).model
    return models.load(directory, TASK).methods


def _take(encoder: Method, wanted: str, name: str, trained: dict[str, Method], source: str) -> None:
    if wanted not in trained:
        raise ConfigError(
            f"encodings={source} has no {wanted}, which {name} begins with; it has {', '.join(trained)}: choose "
            f"steps of these, or encodings=null"
        )
    own, other = _facts(encoder), _facts(trained[wanted])
    differing = [key for key in own if own[key] != other.get(key)]
    if differing:
        told = ", ".join(f"{key}={other.get(key)} instead of {own[key]}" for key in differing)
        raise ConfigError(f"encodings={source}: {wanted} was trained with {told}; set the same, or encodings=null")
    encoder.load_state_dict(trained[wanted].state_dict())
    encoder.requires_grad_(False)


def learning(methods: dict[str, Method]) -> dict[str, Method]:
    """Those of which anything is trained."""
    return {name: m for name, m in methods.items() if any(p.requires_grad for p in m.parameters())}


def _facts(encoder: Method) -> dict[str, object]:
    """What has to be the same for weights to mean the same."""
    scene = encoder.forward_model.config.model_dump(mode="json")
    found = {f"forward_model.{key}": value for key, value in scene.items()}
    if isinstance(encoder, models.Unprojection):
        return found | {"gain": encoder.gain}
    return found | encoder.config.model_dump(mode="json", include=FACTS)
