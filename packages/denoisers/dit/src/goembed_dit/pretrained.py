"""Weights in the layout of the released DiT (github.com/facebookresearch/DiT), from a state dict or a file of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from safetensors.torch import load_file
from torch import Tensor

from goembed_dit.network import DiT

LABEL_TABLE = "y_embedder.embedding_table.weight"
TIME_BIAS = "time_embedding.linear_out.bias"
CONDITION_WEIGHT, CONDITION_BIAS = "condition_embedding.weight", "condition_embedding.bias"
RECOMPUTED = ("pos_embed",)  # fixed sines and cosines, which follow from the size of the input

RENAMED = (
    (r"x_embedder\.proj\.", "patch_embedding.linear."),
    (r"t_embedder\.mlp\.0\.", "time_embedding.linear_in."),
    (r"t_embedder\.mlp\.2\.", "time_embedding.linear_out."),
    (r"(blocks\.\d+\.)attn\.qkv\.", r"\1qkv."),
    (r"(blocks\.\d+\.)attn\.proj\.", r"\1attention_out."),
    (r"(blocks\.\d+\.)mlp\.fc1\.", r"\1mlp_in."),
    (r"(blocks\.\d+\.)mlp\.fc2\.", r"\1mlp_out."),
    (r"(blocks\.\d+\.)adaLN_modulation\.1\.", r"\1modulation."),
    (r"final_layer\.linear\.", "head.linear."),
    (r"final_layer\.adaLN_modulation\.1\.", "head.modulation."),
)


class LoadReport(NamedTuple):
    """What became of each weight."""

    loaded: tuple[str, ...]  # of the network, taken from the file
    kept: dict[str, str]  # of the network, left as it was: why
    unused: tuple[str, ...]  # of the file


def load_released(network: DiT, weights: Path | Mapping[str, Tensor], *, strict: bool = True) -> LoadReport:
    """Copy released weights into a network, and say what became of each.

    A network whose `condition_dim` is the number of labels (1001, the last one for none) takes the label as a one-hot
    condition. In any other the embedding of the label for none becomes part of the time embedding, which is the
    released network without guidance. Positions are recomputed, so the input may have another size.

    **Arguments:**
    - `weights`: a state dict, or a `.safetensors` file or `.pt` file of one.
    - `strict`: refuse when any weight of the network or of the file has no partner of its shape; otherwise keep those
      of the network as they are, and report them.
    """
    state = read_state(weights) if isinstance(weights, Path) else weights
    found = convert(state, network)
    own = network.state_dict()
    kept = {name: reason for name in own if (reason := mismatch(own[name], found.get(name)))}
    loaded = {name: found[name] for name in own if name not in kept}
    unused = tuple(name for name in found if name not in own)
    if strict and (kept or unused):
        reasons = [f"{name} {reason}" for name, reason in kept.items()]
        reasons += [f"{name} is not in the network" for name in unused]
        raise UserError(
            f"the released weights do not fit the network: {'; '.join(reasons)}. "
            "Change the configuration, or load what fits with strict=False"
        )
    if not loaded:
        raise UserError(
            "no released weight fits the network: expected names like 'blocks.0.attn.qkv.weight' and "
            f"{len(own)} weights, got {len(state)}: {', '.join(list(state)[:3])}, …"
        )
    network.load_state_dict(own | loaded)
    return LoadReport(tuple(loaded), kept, unused)


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a file; of a pickle only tensors are read, and nothing is executed."""
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".pt":
        return torch.load(path, map_location="cpu", weights_only=True)
    raise UserError(f"{path} has the suffix {path.suffix!r}: expected .safetensors or .pt")


def convert(state: Mapping[str, Tensor], network: DiT) -> dict[str, Tensor]:
    """The released weights under the names of the network."""
    found = {}
    for name, weight in state.items():
        if name in (*RECOMPUTED, LABEL_TABLE):
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(f"^{pattern}", replacement, name)
        found[name] = weight.flatten(1) if name == "patch_embedding.linear.weight" else weight
    if LABEL_TABLE in state:
        table = state[LABEL_TABLE]
        if network.config.condition_dim == len(table):
            found |= {CONDITION_WEIGHT: table.T, CONDITION_BIAS: torch.zeros_like(table[0])}
        elif TIME_BIAS in found and found[TIME_BIAS].shape == table[-1].shape:
            found[TIME_BIAS] = found[TIME_BIAS] + table[-1]
    return found


def mismatch(own: Tensor, found: Tensor | None) -> str | None:
    """Why a weight cannot be copied, or None."""
    if found is None:
        return "is not in the file"
    if own.shape != found.shape:
        return f"has shape {tuple(own.shape)}, but {tuple(found.shape)} in the file"
    return None
