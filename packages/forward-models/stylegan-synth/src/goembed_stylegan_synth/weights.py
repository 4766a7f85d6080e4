"""Generators as safetensors: the official parameter names, and the settings of the network as JSON in the metadata."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from goembed_core.config.check import check
from goembed_core.errors import ConfigError, UserError, did_you_mean
from goembed_core.files import write_atomically
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from goembed_stylegan_synth.config import EMBEDDED_WEIGHTS, GeneratorConfig
from goembed_stylegan_synth.networks import Generator

FORMAT = "goembed-stylegan2"
STATISTICS_SAMPLES = 10_000


class PretrainedGenerator(NamedTuple):
    """A generator as it was saved."""

    generator: Generator
    config: GeneratorConfig
    w_std: Float[Tensor, " w_dim"]  # of w over 10,000 z
    facts: dict[str, Any]  # where the weights come from


def build_generator(config: GeneratorConfig) -> Generator:
    """The network of these settings, with random weights of the global generator, whose state is kept."""
    with torch.random.fork_rng(devices=[]):
        return Generator(**config.model_dump())


@torch.no_grad()
def latent_statistics(
    generator: Generator, num_samples: int = STATISTICS_SAMPLES
) -> tuple[Float[Tensor, " w_dim"], Float[Tensor, " w_dim"]]:
    """Mean and standard deviation of each number of `w` over the same random `z` every time."""
    device = generator.mapping.w_avg.device
    z = torch.randn(num_samples, generator.mapping.z_dim, generator=torch.Generator().manual_seed(0))
    w = generator.mapping(z.to(device))
    return w.mean(dim=0), w.std(dim=0)


def save_generator(
    path: Path, generator: Generator, config: GeneratorConfig, facts: dict[str, Any] | None = None
) -> None:
    """Write a generator with its settings, its latent statistics and where it comes from."""
    tensors = generator.state_dict() | {"w_std": latent_statistics(generator)[1]}
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "config": config.model_dump_json(), "facts": json.dumps(facts or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(tensors, metadata))


def load_generator(source: str | Path) -> PretrainedGenerator:
    """The generator of an embedded name, or of a file that `save_generator` or `goembed convert stylegan2` wrote.

    **Raises:** UserError if the file is absent, damaged, of another format, or does not fit the settings it carries.
    """
    if str(source) in EMBEDDED_WEIGHTS:
        with as_file(files("goembed_stylegan_synth") / "weights" / f"{source}.safetensors") as path:
            return _load(path)
    path = Path(source)
    if not path.is_file():
        hint = did_you_mean(str(source), EMBEDDED_WEIGHTS)
        embedded = ", ".join(EMBEDDED_WEIGHTS)
        place = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise UserError(f"weights={str(source)!r}: no such file{place}; part of the package are: {embedded}{hint}")
    return _load(path)


def _load(path: Path) -> PretrainedGenerator:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            config = _read_config(path, metadata)
            generator = build_generator(config)
            expected = {name: tuple(value.shape) for name, value in generator.state_dict().items()}
            expected["w_std"] = (config.w_dim,)
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
            problems = shape_problems(expected, found)
            if problems:
                raise UserError(f"weights={str(path)!r} does not fit the settings that it carries: {problems}")
            tensors = {name: file.get_tensor(name).float() for name in expected}
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights={str(path)!r} is not a whole safetensors file: {error}") from None
    broken = sorted(name for name, value in tensors.items() if not value.isfinite().all())
    if broken:
        raise UserError(f"weights={str(path)!r}: {_some(broken)} not finite; the training that wrote it had diverged")
    w_std = tensors.pop("w_std")
    generator.load_state_dict(tensors, assign=True)
    return PretrainedGenerator(generator, config, w_std, json.loads(metadata.get("facts", "{}")))


def _read_config(path: Path, metadata: dict[str, str]) -> GeneratorConfig:
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"weights={str(path)!r} is safetensors, but of format {metadata.get('format')!r} instead of {FORMAT!r}; "
            "make it from a StyleGAN2 checkpoint with: goembed convert stylegan2 CHECKPOINT OUT.safetensors"
        )
    try:
        return check(GeneratorConfig, json.loads(metadata["config"]))
    except (KeyError, ValueError, ConfigError) as error:
        raise UserError(f"weights={str(path)!r} carries settings that cannot be used: {error}") from None


def shape_problems(expected: dict[str, tuple[int, ...]], found: dict[str, Any]) -> str:
    """What keeps tensors (or their shapes) from being those expected; empty if nothing does."""
    shapes = {name: tuple(value.shape) if isinstance(value, Tensor) else tuple(value) for name, value in found.items()}
    problems = {
        "missing": sorted(expected.keys() - shapes.keys()),
        "unexpected": sorted(shapes.keys() - expected.keys()),
        "of another shape": [
            f"{name} {shapes[name]} instead of {expected[name]}"
            for name in sorted(expected.keys() & shapes.keys())
            if expected[name] != shapes[name]
        ],
    }
    return "; ".join(f"{what}: {_some(names)}" for what, names in problems.items() if names)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
