"""Converts StyleGAN2 checkpoints to safetensors: the official pickles, and the common PyTorch port's `g_ema` files.

Nothing in a checkpoint is executed: pickles go through an allow-list, torch files through `weights_only`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from goembed_core.config.check import check
from goembed_core.errors import ConfigError, UserError
from goembed_core.files import sha256
from torch import Tensor

from goembed_stylegan_synth.config import GeneratorConfig
from goembed_stylegan_synth.layers import binomial_filter
from goembed_stylegan_synth.port import read_port
from goembed_stylegan_synth.unpickle import ModuleRecord, read_official_pickle
from goembed_stylegan_synth.weights import build_generator, save_generator, shape_problems

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

# What this package's networks do; a checkpoint that says otherwise would convert into another network.
SYNTHESIS_SETTINGS = {"architecture": "skip", "use_noise": True, "activation": "lrelu", "resample_filter": [1, 3, 3, 1]}
MAPPING_SETTINGS = {"activation": "lrelu", "lr_multiplier": 0.01, "layer_features": None, "embed_features": None}
OWN_SYNTHESIS = {"channel_base", "channel_max", "conv_clamp", "num_fp16_res", "fp16_channels_last"}
OWN_MAPPING = {"num_layers", "w_avg_beta"}


def convert(source: Path, destination: Path) -> None:
    """Write the averaged generator of a checkpoint as safetensors with its settings.

    **Raises:** UserError if the file is damaged, holds another network, or asks for anything to be executed.
    """
    source, destination = Path(source), Path(destination)
    if not source.is_file():
        raise UserError(f"{source}: there is no such checkpoint")
    with open(source, "rb") as file:
        head = file.read(len(LEGACY_TORCH_MAGIC))
    if head.startswith(ZIP_MAGIC) or head == LEGACY_TORCH_MAGIC:
        layout, (config, tensors) = "PyTorch port", read_port(_load_torch(source), source)
    else:
        layout, (config, tensors) = "official pickle", _read_official(read_official_pickle(source), source)
    generator = build_generator(config)
    problems = shape_problems({k: tuple(v.shape) for k, v in generator.state_dict().items()}, tensors)
    if problems:
        raise UserError(f"{source} does not hold the generator that its settings describe: {problems}")
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise UserError(f"{source}: {name} is not finite")
        if name.endswith("resample_filter") and not torch.allclose(value.float(), binomial_filter(), atol=1e-6):
            raise UserError(f"{source}: {name} is not the [1, 3, 3, 1] filter, the only one that is supported")
    generator.load_state_dict(tensors)
    save_generator(destination, generator, config, {"converted_from": layout, "source_sha256": sha256(source)})


def _load_torch(source: Path) -> Any:
    # The port keeps its command line beside the weights: a Namespace, which only holds values.
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            return torch.load(source, map_location="cpu", weights_only=True)
        except Exception as error:  # what a damaged or hostile file raises can be anything
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{source} is not weights alone, and nothing in it was executed: {reason}") from None


def _read_official(content: Any, source: Path) -> tuple[GeneratorConfig, dict[str, Tensor]]:
    record = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(record, ModuleRecord):
        raise UserError(f"{source} is a pickle without a G_ema; expected an official StyleGAN2 (PyTorch) checkpoint")
    try:
        settings = dict(record.state["_init_kwargs"])
        tensors = record.tensors()
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{source}: G_ema is not a StyleGAN2 generator: {error!r}") from None
    synthesis, mapping = dict(settings.get("synthesis_kwargs", {})), dict(settings.get("mapping_kwargs", {}))
    if settings.get("c_dim"):
        raise UserError(
            f"{source} is conditional on {settings['c_dim']} labels; only unconditional generators are supported"
        )
    _require(source, "synthesis_kwargs", synthesis, SYNTHESIS_SETTINGS, OWN_SYNTHESIS)
    _require(source, "mapping_kwargs", mapping, MAPPING_SETTINGS, OWN_MAPPING)
    try:
        config = check(
            GeneratorConfig,
            {
                "resolution": settings["img_resolution"],
                "img_channels": settings["img_channels"],
                "z_dim": settings["z_dim"],
                "w_dim": settings["w_dim"],
                "mapping_layers": mapping.get("num_layers", 8),
                "channel_base": synthesis.get("channel_base", 32768),
                "channel_max": synthesis.get("channel_max", 512),
                "conv_clamp": synthesis.get("conv_clamp"),
                "num_low_precision": synthesis.get("num_fp16_res", 0),
            },
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise UserError(f"{source}: the settings of G_ema cannot be used: {error}") from None
    return config, {name: value.float() for name, value in tensors.items()}


def _require(source: Path, section: str, given: dict[str, Any], wanted: dict[str, Any], own: set[str]) -> None:
    for key, value in given.items():
        if key in own or (key in wanted and value == wanted[key]):
            continue
        expected = f"only {wanted[key]!r} is supported" if key in wanted else "no setting of a StyleGAN2 generator"
        raise UserError(f"{source}: {section}.{key}={value!r}: {expected}")
