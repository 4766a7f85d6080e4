"""Times the grid sampler against `torch.nn.functional.grid_sample`: `python benchmarks/grid_sampler.py [--json FILE]`.

Both look up the same points in the same grids: forward; with the gradient in the grid, as an encoding at an origin
takes it; and with the gradient of that gradient in the values, as an encoding is trained.  They run turn by turn in
one process, so that whatever else the machine does falls on both; medians.  `points` adds the gradient in the points.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from goembed_triplane.config import TriplaneConfig, VoxelsConfig
from goembed_triplane.grids import Triplane, Voxels
from torch import Tensor
from torch.nn import functional as F

Sampler = Callable[[Tensor, Tensor], Tensor]  # (signal, points (B, n, 3)) to (B, n, C)


class Scene(NamedTuple):
    """A signal, where it is looked at, and what it is multiplied by there."""

    name: str
    signal: Tensor
    points: Tensor
    values: Tensor
    ours: Sampler
    theirs: Sampler


def of_planes(signal: Tensor, points: Tensor) -> Tensor:
    """The sum of three planes by grid_sample, in one call."""
    places = torch.stack([points[..., pair] for pair in ([0, 1], [0, 2], [1, 2])], 1).flatten(0, 1)
    found = F.grid_sample(signal.flatten(0, 1), places[:, :, None], padding_mode="border", align_corners=True)
    return found[..., 0].unflatten(0, (len(signal), 3)).sum(1).mT


def of_voxels(signal: Tensor, points: Tensor) -> Tensor:
    """A grid by grid_sample."""
    found = F.grid_sample(signal, points[:, :, None, None], padding_mode="border", align_corners=True)
    return found.flatten(2).mT


def scenes(device: torch.device) -> list[Scene]:
    """A triplane, several of them, a fine one, and voxels."""
    generator = torch.Generator().manual_seed(0)
    planes = {
        "triplane 32, 60,000 points": (1, 60_000, TriplaneConfig(resolution=32)),
        "8 triplanes 32, 8,000 points each": (8, 8_000, TriplaneConfig(resolution=32)),
        "triplane 128, 60,000 points": (1, 60_000, TriplaneConfig(resolution=128)),
    }
    grids = {
        "voxels 24, 60,000 points": (1, 60_000, VoxelsConfig(resolution=24)),
        "voxels 64, 60,000 points": (1, 60_000, VoxelsConfig(resolution=64)),
    }
    found = []
    for name, (batch, number, config) in (planes | grids).items():
        space = Triplane(config) if isinstance(config, TriplaneConfig) else Voxels(config)
        signal = torch.randn(batch, *space.shape, generator=generator).to(device)
        points = (2 * torch.rand(batch, number, 3, generator=generator) - 1).to(device)
        values = torch.randn(batch, number, config.channels, generator=generator).to(device)
        theirs = of_planes if isinstance(config, TriplaneConfig) else of_voxels
        found.append(Scene(name, signal, points, values, space.features, theirs))
    return found


def steps(sampler: Sampler, scene: Scene) -> dict[str, Callable[[], object]]:
    """What is timed of one sampler."""
    signal, values = (x.clone().requires_grad_() for x in (scene.signal, scene.values))
    points = scene.points.clone().requires_grad_()

    @torch.no_grad()
    def forward() -> object:
        return sampler(scene.signal, scene.points)

    def backward() -> object:
        return torch.autograd.grad(sampler(signal, scene.points), signal, scene.values)

    def double() -> object:
        (slope,) = torch.autograd.grad(sampler(signal, scene.points), signal, values, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), values)

    def in_points() -> object:
        return torch.autograd.grad(sampler(signal, points), (signal, points), scene.values)

    return {"forward": forward, "and backward": backward, "and double backward": double, "points": in_points}


def clock(device: torch.device) -> float:
    """Processor time on a CPU, which others do not lengthen much; wall-clock time on a GPU."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def medians(timed: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Seconds of each, taken in turns after two rounds that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for repeat in range(repeats + 2):
        for name, step in timed.items():
            start = clock(device)
            step()
            if repeat >= 2:
                taken[name].append(clock(device) - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Print one line per grid and pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for scene in scenes(device):
        torch.testing.assert_close(scene.ours(*scene[1:3]), scene.theirs(*scene[1:3]), atol=1e-4, rtol=1e-4)
        ours, theirs = steps(scene.ours, scene), steps(scene.theirs, scene)
        timed = {(name, who): way[name] for name in ours for who, way in (("ours", ours), ("theirs", theirs))}
        seconds = medians(timed, options.repeats, device)
        for name in ours:
            mine, other = (seconds[name, who] * 1e3 for who in ("ours", "theirs"))
            rows.append({"grid": scene.name, "pass": name, "ms": round(mine, 2), "grid_sample_ms": round(other, 2)})
            print(
                f"{scene.name:34s} {name:20s} {mine:8.2f} ms, grid_sample {other:8.2f} ms: "
                f"{other / mine:5.2f} times as fast"
            )
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
