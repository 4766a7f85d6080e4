"""The processes of a run, as Accelerate sees them."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def use_cpu() -> bool:
    """True if Accelerate is told to stay on the CPU, or there is nothing else.

    Accelerate joins processes on CPUs only when told so in words; without this each of them would train alone.
    """
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
    return told or not torch.accelerator.is_available()


def process_state() -> PartialState:
    """This process among those of the run."""
    return PartialState(cpu=use_cpu())
