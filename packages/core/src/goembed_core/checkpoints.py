"""Training checkpoints: safetensors and JSON, whole or absent, with checksums; never a pickle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goembed_core.errors import UserError
from goembed_core.files import new_directory, remove_incomplete, sha256

FORMAT = 1


class Checkpoint(NamedTuple):
    """What a checkpoint holds: named groups of tensors, and JSON."""

    groups: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint directory atomically; UserError when it cannot be written, and then nothing has changed."""
    try:
        _write_checkpoint(folder, checkpoint)
    except (OSError, SafetensorError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise UserError(
            f"checkpoint {folder} cannot be written: {said}; the earlier ones are whole. "
            "Make room or mend the folder, and the same command goes on from the last"
        ) from None


def _write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    with new_directory(folder) as incomplete:
        for name, tensors in checkpoint.groups.items():
            contiguous = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
            save_file(contiguous, incomplete / f"{name}.safetensors")
        checksums = {file.name: sha256(file) for file in sorted(incomplete.iterdir())}
        state = {"format": FORMAT, "checksums": checksums, **checkpoint.state}
        (incomplete / "state.json").write_text(json.dumps(state, indent=1))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint directory and verify its checksums; ValueError says what is damaged."""
    try:
        state = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: state.json cannot be read ({error})") from None
    if not isinstance(state, dict) or not isinstance(state.get("checksums", {}), dict):
        raise ValueError(f"{folder}: state.json is not that of a checkpoint")
    if state.get("format") != FORMAT:
        raise UserError(
            f"{folder}: checkpoint format {state.get('format')} is not the format {FORMAT} that this version reads; "
            "use the version of goembed-core that wrote it, or another run.dir"
        )
    if not state.get("checksums"):
        raise ValueError(f"{folder}: state.json names no files")
    groups = {}
    for name, checksum in state["checksums"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != checksum:
            raise ValueError(f"{path} is missing or does not match its checksum")
        try:
            groups[path.stem] = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error})") from None
    return Checkpoint(groups, state)


class CheckpointFolder:
    """The checkpoints of one run: `NNNNNNNNN` images each, the newest `keep` of them.

    `warn` receives a line for every damaged checkpoint that is passed over.
    """

    def __init__(self, directory: Path, keep: int = 2):
        self.directory = directory
        self.keep = keep

    def all(self) -> list[Path]:
        """Every checkpoint, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if path.is_dir() and path.name.isdigit())

    def save(self, images_seen: int, checkpoint: Checkpoint) -> Path:
        """Write one checkpoint and delete those past `keep`."""
        folder = self.directory / f"{images_seen:09d}"
        save_checkpoint(folder, checkpoint)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)
        remove_incomplete(self.directory)
        return folder

    def newest(self, warn) -> Checkpoint | None:
        """The newest whole checkpoint; a damaged one is named and passed over for the previous; None where none is.

        UserError where all are damaged: a training from the beginning would replace what is left of the run.
        """
        folders = self.all()
        for folder in reversed(folders):
            try:
                return load_checkpoint(folder)
            except ValueError as error:
                warn(f"checkpoint passed over: {error}")
        if folders:
            raise UserError(
                f"{self.directory}: no checkpoint is whole, of {len(folders)}; restore one, or delete that folder and "
                "the same command begins again; another run.dir leaves this run as it is"
            )
        return None


def module_tensors(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The state of several modules as one group of tensors."""
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def load_modules(modules: dict[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """The reverse of `module_tensors`; names and shapes must agree."""
    for name, module in modules.items():
        prefix = f"{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"the saved weights do not fit {name}: {' '.join(str(error).split())}") from None


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors, and its parameter groups as JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"{name}.{index}.{key}": torch.as_tensor(value)
        for index, entry in state["state"].items()
        for key, value in entry.items()
    }
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    return tensors, {"groups": groups, "sizes": [len(group["params"]) for group in state["param_groups"]]}


def load_optimizer(
    name: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], saved: dict[str, Any]
) -> None:
    """The reverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        owner, index, field = key.rsplit(".", 2)
        if owner == name:
            state.setdefault(int(index), {})[field] = value
    first, groups = 0, []
    for group, size in zip(saved["groups"], saved["sizes"], strict=True):
        settings = {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}  # JSON
        groups.append({**settings, "params": list(range(first, first + size))})
        first += size
    optimizer.load_state_dict({"state": state, "param_groups": groups})
