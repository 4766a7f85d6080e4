"""A trained model as a directory: component names, settings, plugin versions and weights; no pickle anywhere."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from goembed_core.errors import UserError
from goembed_core.files import new_directory
from goembed_core.plugins import host, spoken

FORMAT = 1
MANIFEST = "model.json"
ENTRY = {"kind", "name", "config", "distribution", "version", "weights"}


class Part(NamedTuple):
    """One component of a model: what the plugin host builds it from, and the module that holds its weights."""

    kind: str
    name: str
    config: Any  # the component's settings, or None
    module: nn.Module | None  # None: the settings say it all (a generator that is part of a plugin)


class Pretrained(NamedTuple):
    """A model read from a directory: the built components, in eval mode, and the facts that were kept with them."""

    parts: dict[str, Any]
    facts: dict[str, Any]


def save_pretrained(
    directory: Path, parts: dict[str, Part], facts: dict[str, Any] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a model directory atomically: `model.json` and one safetensors file a component.

    **Arguments:**
    - `facts`: anything that JSON can hold and a reader needs (task, images seen, noise schedule).
    - `dtype`: floating-point type of the stored weights; None keeps each tensor's own.
    """
    manifest: dict[str, Any] = {"format": FORMAT, "facts": facts or {}, "components": {}}
    with new_directory(directory) as incomplete:
        for key, part in parts.items():
            component = host().get(part.kind, part.name)
            manifest["components"][key] = {
                "kind": part.kind,
                "name": part.name,
                "config": None if part.config is None else part.config.model_dump(mode="json"),
                "distribution": component.distribution,
                "version": component.version,
                "weights": None if part.module is None else f"{key}.safetensors",
            }
            if part.module is not None:
                (incomplete / f"{key}.safetensors").write_bytes(save(_state(part.module, dtype)))
        (incomplete / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def from_pretrained(
    source: str | Path, *, device: torch.device | str = "cpu", revision: str | None = None
) -> Pretrained:
    """Build a model from a directory that `save_pretrained` wrote, or from the repository `owner/name` of a model hub.

    **Raises:** UserError, which names the package to install when a component's plugin is missing, and the tensor when
    weights do not fit.
    """
    directory = _locate(source, revision)
    manifest = _read_manifest(directory)
    parts = {}
    for key, entry in manifest["components"].items():
        _require_plugin(directory, key, entry)
        module = host().build(entry["kind"], entry["name"], entry["config"] or None)
        if entry["weights"] is not None:
            _load_weights(module, directory / entry["weights"])
        if isinstance(module, nn.Module):
            module.to(device).eval().requires_grad_(False)
        parts[key] = module
    return Pretrained(parts, manifest["facts"])


def _state(module: nn.Module, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    return {
        key: (value.to(dtype) if dtype is not None and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in module.state_dict().items()
    }


def _locate(source: str | Path, revision: str | None) -> Path:
    directory = Path(source)
    if directory.is_dir():
        return directory
    name = str(source)
    if directory.is_absolute() or name.startswith(".") or name.count("/") != 1:
        place = "" if directory.is_absolute() else f" in {Path.cwd()}"
        raise UserError(f"model {name!r}: there is no such directory{place}, and it is not of a hub's form owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model {name!r} is no directory here and cannot be had from the hub: {reason}") from None


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except OSError:
        raise UserError(f"{directory} is not a model directory: it has no {MANIFEST}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        raise UserError(
            f"{path} has format {found}; this version reads format {FORMAT}: use the goembed-core that wrote it"
        )
    entries = manifest.get("components")
    whole = isinstance(entries, dict) and all(isinstance(e, dict) and e.keys() >= ENTRY for e in entries.values())
    if not whole or not isinstance(manifest.get("facts"), dict):
        raise UserError(f"{path} is damaged: it does not say which components the model has; restore it")
    return manifest


def _require_plugin(directory: Path, key: str, entry: dict[str, Any]) -> None:
    distribution, wanted = entry["distribution"], entry["version"]
    asked = (entry["kind"], entry["name"], distribution)
    if asked in [(c.kind, c.name, c.distribution) for c in host().components]:
        return  # also what was registered by hand, which no installer knows
    try:
        version(distribution)
    except PackageNotFoundError:
        series = ".".join(wanted.split(".")[:2])
        raise UserError(
            f"{directory} needs the {spoken(entry['kind'])} {entry['name']!r} of {distribution} {wanted} as its {key}, "
            f"which is not installed: uv pip install '{distribution}=={series}.*'"
        ) from None


def _load_weights(module: nn.Module, path: Path) -> None:
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing from the model directory") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from None
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    if missing or unexpected or wrong:
        problems = {"missing": missing, "unexpected": unexpected, "of another shape": sorted(wrong)}
        found = "; ".join(f"{what}: {', '.join(names[:3])}" for what, names in problems.items() if names)
        raise UserError(f"{path} does not fit {type(module).__name__}: {found}")
    module.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()})
