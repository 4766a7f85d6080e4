"""Writes checkpoints in the layouts that the converter reads, with the structure of the real files.

The official pickle refers to modules that do not exist here (`torch_utils.persistence`, `dnnlib.util`); they are put in
place while it is written, and their functions must not be found when it is read.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from goembed_stylegan_synth.config import GeneratorConfig
from goembed_stylegan_synth.networks import Generator
from torch import Tensor, nn


class EasyDict(dict):
    """As in the official code; pickled under `dnnlib.util`."""


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the official reconstruction would execute meta['module_src']")


EasyDict.__module__ = "dnnlib.util"
EasyDict.__qualname__ = "EasyDict"
_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """An object of a class that carries its own source."""

    def __init__(self, class_name: str, state: dict[str, Any], module_src: str):
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": module_src,
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,)


@contextlib.contextmanager
def official_modules() -> Iterator[None]:
    names = {"dnnlib": {}, "dnnlib.util": {"EasyDict": EasyDict}, "torch_utils": {}}
    names["torch_utils.persistence"] = {"_reconstruct_persistent_obj": _reconstruct_persistent_obj}
    for name, content in names.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def persistent(module: nn.Module, module_src: str, **attributes: Any) -> Persistent:
    """A module as its `__dict__`, children likewise."""
    state = {
        "training": False,
        "_parameters": OrderedDict(module._parameters),
        "_buffers": OrderedDict(module._buffers),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_forward_hooks": OrderedDict(),
        "_is_full_backward_hook": None,
        "_modules": OrderedDict((name, persistent(child, module_src)) for name, child in module._modules.items()),
        "_init_args": (),
        "_init_kwargs": {},
        "weight_gain": np.float64(1) / np.sqrt(512),
        **attributes,
    }
    return Persistent(type(module).__name__, state, module_src)


def official_settings(config: GeneratorConfig) -> dict[str, Any]:
    return {
        "c_dim": 0,
        "img_resolution": config.resolution,
        "img_channels": config.img_channels,
        "z_dim": config.z_dim,
        "w_dim": config.w_dim,
        "mapping_kwargs": EasyDict(num_layers=config.mapping_layers),
        "synthesis_kwargs": EasyDict(
            channel_base=config.channel_base,
            channel_max=config.channel_max,
            num_fp16_res=config.num_low_precision,
            conv_clamp=config.conv_clamp,
        ),
    }


def write_official(
    path: Path,
    generator: Generator,
    config: GeneratorConfig,
    *,
    module_src: str = "",
    protocol: int = 4,
    **changes: Any,
) -> Path:
    """`{"G": …, "D": …, "G_ema": …}`; `changes` are to the generator's settings."""
    settings = official_settings(config)
    for key, value in changes.items():
        if isinstance(value, dict):
            settings[key].update(value)
        else:
            settings[key] = value
    record = persistent(generator, module_src, _init_kwargs=settings)
    content = {"G": None, "D": None, "G_ema": record, "augment_pipe": None}
    content["training_set_kwargs"] = EasyDict(class_name="training.dataset.ImageFolderDataset", use_labels=False)
    return dump(path, content, protocol)


def dump(path: Path, content: Any, protocol: int = 4) -> Path:
    buffer = io.BytesIO()
    with official_modules():
        pickle.dump(content, buffer, protocol=protocol)
    path.write_bytes(buffer.getvalue())
    return path


def random_port_state(
    resolution: int = 32, style_dim: int = 6, layers: int = 3, channel_max: int = 8
) -> dict[str, Tensor]:
    """A generator of the common PyTorch port with random weights, under its names and in its shapes."""
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=random)  # noqa: E731
    kernel = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2) / 64 * 4
    state: dict[str, Tensor] = {"input.input": draw(1, channel_max, 4, 4)}
    for index in range(1, layers + 1):
        state |= {f"style.{index}.weight": 100 * draw(style_dim, style_dim), f"style.{index}.bias": draw(style_dim)}

    def modulated(name: str, i: int, o: int, size: int) -> None:
        state[f"{name}.conv.weight"] = draw(1, o, i, size, size)
        state[f"{name}.conv.modulation.weight"] = draw(i, style_dim)
        state[f"{name}.conv.modulation.bias"] = 1 + draw(i)

    def styled(name: str, i: int, o: int, up: bool) -> None:
        modulated(name, i, o, 3)
        state[f"{name}.noise.weight"] = draw(1)
        state[f"{name}.activate.bias"] = draw(o)
        if up:
            state[f"{name}.conv.blur.kernel"] = kernel

    def to_rgb(name: str, i: int, up: bool) -> None:
        modulated(name, i, 3, 1)
        state[f"{name}.bias"] = draw(1, 3, 1, 1)
        if up:
            state[f"{name}.upsample.kernel"] = kernel

    styled("conv1", channel_max, channel_max, up=False)
    to_rgb("to_rgb1", channel_max, up=False)
    state["noises.noise_0"] = draw(1, 1, 4, 4)
    before, side, index = channel_max, 8, 0
    while side <= resolution:
        channels = min(4 * resolution // side, channel_max)
        styled(f"convs.{2 * index}", before, channels, up=True)
        styled(f"convs.{2 * index + 1}", channels, channels, up=False)
        to_rgb(f"to_rgbs.{index}", channels, up=True)
        for number in (2 * index + 1, 2 * index + 2):
            state[f"noises.noise_{number}"] = draw(1, 1, side, side)
        before, side, index = channels, 2 * side, index + 1
    return state


def write_port(path: Path, state: dict[str, Tensor], *, zipped: bool = True, **others: Any) -> Path:
    """`{"g_ema": …, "args": Namespace}`, as the port's training saves it."""
    content = {"g": state, "g_ema": state, "d": {}, "args": argparse.Namespace(size=32), "ada_aug_p": 0.0, **others}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def port_image(oracle: ModuleType, state: dict[str, Tensor], w: Tensor) -> Tensor:
    """The port's own arithmetic: `scale · W · style` per sample, demodulated, and a transposed convolution going up."""

    def modulated(name: str, x: Tensor, demodulate: bool, up: bool = False) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        modulation = state[f"{name}.conv.modulation.weight"]
        style = w @ modulation.t() * modulation.shape[1] ** -0.5 + state[f"{name}.conv.modulation.bias"]
        weights = weight[0, 0].numel() ** -0.5 * weight * style[:, None, :, None, None]
        if demodulate:
            weights = weights * (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        if not up:
            return oracle.per_sample_conv(x, weights, weight.shape[-1] // 2)
        rows = [F.conv_transpose2d(x[b : b + 1], weights[b].transpose(0, 1), stride=2) for b in range(len(x))]
        return oracle.fir(torch.cat(rows), (1, 1), gain=4)

    def styled(name: str, x: Tensor, number: int, up: bool = False) -> Tensor:
        y = modulated(name, x, demodulate=True, up=up) + state[f"{name}.noise.weight"] * state[f"noises.noise_{number}"]
        return oracle.lrelu(y + state[f"{name}.activate.bias"][:, None, None], None)

    def to_rgb(name: str, x: Tensor) -> Tensor:
        return modulated(name, x, demodulate=False) + state[f"{name}.bias"]

    x = styled("conv1", state["input.input"].repeat(len(w), 1, 1, 1), 0)
    image, index = to_rgb("to_rgb1", x), 0
    while f"to_rgbs.{index}.bias" in state:
        x = styled(f"convs.{2 * index}", x, 2 * index + 1, up=True)
        x = styled(f"convs.{2 * index + 1}", x, 2 * index + 2)
        image = oracle.upsample(image) + to_rgb(f"to_rgbs.{index}", x)
        index += 1
    return image


def port_mapping(oracle: ModuleType, state: dict[str, Tensor], z: Tensor) -> Tensor:
    w, index = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt(), 1
    while f"style.{index}.weight" in state:
        weight = state[f"style.{index}.weight"]
        scale = weight.shape[1] ** -0.5 * 0.01
        w = oracle.lrelu(w @ (weight * scale).t() + state[f"style.{index}.bias"] * 0.01, None)
        index += 1
    return w
