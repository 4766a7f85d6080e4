"""The command lines of accelerate's launcher; torch is imported only to count GPUs."""

from __future__ import annotations

from collections.abc import Sequence


def launch_options(num_gpus: int) -> list[str]:
    """What the launcher is told so that it asks nothing and assumes nothing; no GPU means one process on the CPU."""
    options = ["--num_processes", str(max(num_gpus, 1)), "--num_machines", "1", "--dynamo_backend", "no"]
    return options + ["--multi_gpu"] * (num_gpus > 1) + ["--mixed_precision", "no", "--cpu"] * (num_gpus == 0)


def count_gpus() -> int:
    """How many GPUs torch sees here."""
    import torch

    return torch.accelerator.device_count()


def train_words(overrides: Sequence[str]) -> list[str]:
    """What is launched."""
    return ["-m", "goembed_core.train", *overrides]
