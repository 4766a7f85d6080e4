"""Which arithmetic pays where: bfloat16 only on processors that compute in it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch


def native_bf16(device: torch.device | str) -> bool:
    """True if the device has bfloat16 units; emulated bfloat16 is slower than float32."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # older torch does not tell
        return False
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_precision(setting: str, device: torch.device | str) -> str | None:
    """`train.mixed_precision` as Accelerate's own word; None obeys its launcher."""
    if setting == "auto":
        return None
    if setting == "bf16-if-native":
        return "bf16" if native_bf16(device) else "no"
    return setting


def autocast(setting: str, device: torch.device | str) -> AbstractContextManager:
    """The same choice for evaluation, outside of Accelerate."""
    device = torch.device(device)
    precision = choose_precision(setting, device) or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, dtypes[precision]) if precision in dtypes else nullcontext()


def at_least_float32(value: torch.Tensor) -> torch.Tensor:
    """The value in float32, unless it has more digits already."""
    return value if value.dtype == torch.float64 else value.float()


def without_autocast(device: torch.device | str) -> AbstractContextManager:
    """`torch.autocast(enabled=False)`, and nothing on a device that has no autocast, such as meta."""
    kind = torch.device(device).type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
