"""A small training in float64, for launchers: `toy.py DIRECTORY IMAGES DTYPE MICRO_BATCH_SIZE [STOP_AT_STEP]`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from goembed_core.config import OptimizerConfig, TrainConfig
from goembed_core.diffusion import Split, Terms, split_views, squared_error
from goembed_core.processes import process_state
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.runs import Run
from goembed_core.schedule import NoiseSchedule
from goembed_core.trainer import Interrupted, Phase, Plan, Player, Trainer
from torch import nn


def make_plan(dtype: torch.dtype, stop_at_step: int | None) -> Plan:
    """Denoise one of four views of a vector, given another: what is drawn is views, times and noise."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 32), nn.SiLU(), nn.Linear(32, 2)).to(dtype)
    schedule = NoiseSchedule()
    steps = 0

    def draw(_: None, random: ItemRandom) -> Split:
        observations = Observations(random.randn(4, 2).to(dtype).cumsum(1), random.rand(4).to(dtype))
        return split_views(observations, 1, 1, 0, random)

    def losses(split: Split, random: ItemRandom) -> Terms:
        nonlocal steps
        steps += 1
        if steps == stop_at_step and int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # one process alone is told
        t = schedule.draw_timesteps(random)
        noise = random.randn(*split.target.values.shape[1:]).to(dtype)
        noisy = schedule.add_noise(split.target.values, noise, t)
        seen = torch.cat([split.context.values[:, 0], noisy[:, 0], t[:, None].to(dtype) / 1000], 1)
        return Terms({"target": squared_error_in(dtype, network(seen), split.target.values[:, 0])})

    return Plan(
        modules={"network": network},
        players={"network": Player(network, OptimizerConfig(lr=3e-3))},
        phases=[Phase("network", "network", losses)],
        prepare=draw,
        averaged=("network",),
    )


def squared_error_in(dtype: torch.dtype, estimate: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The loss of the core, or the same in float64."""
    return (estimate - values).square().mean() if dtype == torch.float64 else squared_error(estimate, values).mean()


def main() -> None:
    """Train; a stop is not an error of this script."""
    directory, images, dtype, micro, *stop = sys.argv[1:]
    run = Run(Path(directory), {"task": "toy"})
    run.dir.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(
        images=int(images), batch_size=16, micro_batch_size=int(micro) or None, log_every_nimg=16,
        checkpoint_every_nimg=400, ema_halflife_nimg=500, mixed_precision="no", threads=1,
    )  # fmt: skip
    try:
        Trainer(run, config, make_plan(getattr(torch, dtype), int(stop[0]) if stop else None)).train()
    except Interrupted as stopped:
        print(stopped)
    process_state().destroy_process_group()


if __name__ == "__main__":
    main()
