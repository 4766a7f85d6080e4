"""The layout of the common PyTorch port of StyleGAN2: `{"g_ema": state_dict, "latent_avg": …}`, mapped name by name.

Its convolutions keep the equalised scale `1 / sqrt(fan_in)` where the official ones let demodulation cancel it, and its
tensors carry leading dimensions of one.  Upsampling weights need no flip: both hand them to a transposed convolution.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from goembed_core.config.check import check
from goembed_core.errors import ConfigError, UserError
from torch import Tensor

from goembed_stylegan_synth.config import GeneratorConfig
from goembed_stylegan_synth.layers import binomial_filter
from goembed_stylegan_synth.networks import MappingNetwork, channels_by_resolution
from goembed_stylegan_synth.weights import STATISTICS_SAMPLES

MAPPING_KEY = re.compile(r"style\.(\d+)\.weight")
RGB_KEY = re.compile(r"to_rgbs\.(\d+)\.bias")


def read_port(content: Any, source: Path) -> tuple[GeneratorConfig, dict[str, Tensor]]:
    """Settings and tensors, under their official names, of the port's checkpoint or of its bare generator state."""
    state = content.get("g_ema", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not {"input.input", "style.1.weight"} <= state.keys():
        raise UserError(f"{source} is a torch file without a g_ema; expected a StyleGAN2 generator of the PyTorch port")
    try:
        config = _config(state)
        tensors = _mapping(state, config) | _synthesis(state, config)
    except KeyError as error:
        raise UserError(f"{source}: the generator has no {error.args[0]}; the checkpoint is incomplete") from None
    except ConfigError as error:
        raise UserError(f"{source}: the generator's sizes cannot be used: {error}") from None
    average = content.get("latent_avg")
    tensors["mapping.w_avg"] = _mean_latent(tensors, config) if average is None else average.reshape(-1)
    return config, {name: value.float().contiguous() for name, value in tensors.items()}


def _config(state: dict[str, Tensor]) -> GeneratorConfig:
    resolution = 8 << max((int(m[1]) for m in map(RGB_KEY.fullmatch, state) if m), default=0)
    top = state[f"to_rgbs.{int(math.log2(resolution)) - 3}.conv.weight"].shape[2]
    return check(
        GeneratorConfig,
        {
            "resolution": resolution,
            "img_channels": 3,
            "z_dim": state["style.1.weight"].shape[1],
            "w_dim": state["style.1.weight"].shape[0],
            "mapping_layers": max(int(m[1]) for m in map(MAPPING_KEY.fullmatch, state) if m),
            "channel_base": top * resolution,
            "channel_max": state["input.input"].shape[1],
            "conv_clamp": None,
        },
    )


def _mapping(state: dict[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    return {
        f"mapping.fc{index}.{kind}": state[f"style.{index + 1}.{kind}"]  # style.0 normalises, without parameters
        for index in range(config.mapping_layers)
        for kind in ("weight", "bias")
    }


def _synthesis(state: dict[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    tensors = {"synthesis.b4.const": state["input.input"].squeeze(0)}
    # The port's generator may come without its constant noise; it is drawn then, as its constructor would.
    random = torch.Generator().manual_seed(0)
    num_convs = 0
    for index, side in enumerate(channels_by_resolution(config.resolution, config.channel_base, config.channel_max)):
        block = f"synthesis.b{side}"
        theirs = (
            {"conv1": "conv1"} if side == 4 else {"conv0": f"convs.{2 * index - 2}", "conv1": f"convs.{2 * index - 1}"}
        )
        for ours, name in theirs.items():
            tensors |= _styled_conv(state, f"{block}.{ours}", name)
            noise = state.get(f"noises.noise_{num_convs}")
            noise = torch.randn(side, side, generator=random) if noise is None else noise.reshape(noise.shape[-2:])
            tensors[f"{block}.{ours}.noise_const"] = noise
            num_convs += 1
        tensors |= _to_rgb(state, f"{block}.torgb", "to_rgb1" if side == 4 else f"to_rgbs.{index - 1}")
        tensors[f"{block}.resample_filter"] = binomial_filter()
    return tensors


def _styled_conv(state: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    weight = state[f"{theirs}.conv.weight"].squeeze(0)
    blur = state.get(f"{theirs}.conv.blur.kernel")
    return {
        f"{ours}.affine.weight": state[f"{theirs}.conv.modulation.weight"],
        f"{ours}.affine.bias": state[f"{theirs}.conv.modulation.bias"],
        f"{ours}.weight": weight / math.sqrt(weight[0].numel()),
        f"{ours}.noise_strength": state[f"{theirs}.noise.weight"].reshape(()),
        f"{ours}.bias": state[f"{theirs}.activate.bias"],
        f"{ours}.resample_filter": binomial_filter() if blur is None else blur / 4,  # theirs has the gain of upsampling
    }


def _to_rgb(state: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    return {
        f"{ours}.affine.weight": state[f"{theirs}.conv.modulation.weight"],
        f"{ours}.affine.bias": state[f"{theirs}.conv.modulation.bias"],
        f"{ours}.weight": state[f"{theirs}.conv.weight"].squeeze(0),  # here both scale by 1 / sqrt(in)
        f"{ours}.bias": state[f"{theirs}.bias"].reshape(-1),
    }


def _mean_latent(tensors: dict[str, Tensor], config: GeneratorConfig) -> Tensor:
    mapping = MappingNetwork(config.z_dim, config.w_dim, config.mapping_layers)
    own = {name.removeprefix("mapping."): value for name, value in tensors.items() if name.startswith("mapping.")}
    mapping.load_state_dict(own | {"w_avg": mapping.w_avg})
    z = torch.randn(STATISTICS_SAMPLES, config.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return mapping(z).mean(dim=0)
