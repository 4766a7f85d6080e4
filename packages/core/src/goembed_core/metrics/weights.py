"""Pretrained weights of measuring networks: found, read without executing anything, and fitted to the last tensor."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from goembed_core.errors import UserError, whereabouts

FORMATS = (".npz", ".safetensors", ".pth", ".pt")


def data_file(relative: str) -> Path | None:
    """That file under the folder that `GOEMBED_DATA` names, if there is one."""
    root = os.environ.get("GOEMBED_DATA")
    path = Path(root) / relative if root else None
    return path if path is not None and path.is_file() else None


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """The named tensors of an npz, safetensors or state-dict file; nothing in it is executed."""
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(f"weights {path}: expected a file ending in {', '.join(FORMATS)}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"weights {whereabouts(path)}: there is no such file") from None
    except (
        OSError,
        ValueError,
        RuntimeError,
        EOFError,
        SafetensorError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as e:
        raise UserError(f"weights {path} cannot be read: {' '.join(str(e).split())[:200]}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights {path}: expected a state dict (names to tensors), got {type(state).__name__}")
    return dict(state)


def fill(module: nn.Module, state: Mapping[str, Tensor], name: str, source: Path | str) -> None:
    """Load `state`, every tensor of it into its place; batch counters, which nothing measures with, may be absent."""
    expected = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    problems = {
        "missing": sorted(expected.keys() - given.keys()),
        "not part of it": sorted(given.keys() - expected.keys()),
        "of another shape": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in sorted(expected.keys() & given.keys())
            if given[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        text = "; ".join(
            f"{what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
            for what, names in problems.items()
            if names
        )
        raise UserError(f"{source} does not hold the weights of {name}: {text}")
    module.load_state_dict(given, strict=False)
