"""A tiny network whose weights are all away from zero."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from goembed_dit.config import DiTConfig
from goembed_dit.network import DiT
from torch import nn

TINY = {"in_channels": 3, "height": 8, "width": 16, "patch_size": 4, "hidden_size": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_config() -> Callable[..., DiTConfig]:
    """Eight tokens of sixteen numbers, pixels out unless told otherwise."""

    def make(**changes: Any) -> DiTConfig:
        out = {} if "head" in changes else {"out_channels": 2}
        return DiTConfig(**(TINY | out | changes))

    return make


@pytest.fixture
def shake() -> Callable[[nn.Module], nn.Module]:
    """Moves every weight away from zero."""

    def perturb(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for weight in module.parameters():
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        return module

    return perturb


@pytest.fixture
def tiny(tiny_config: Callable[..., DiTConfig], shake: Callable[[nn.Module], nn.Module]) -> Callable[..., DiT]:
    """A tiny network with weights away from zero."""

    def make(**changes: Any) -> DiT:
        torch.manual_seed(5)  # the same weights on every call
        return shake(DiT(tiny_config(**changes)))

    return make
