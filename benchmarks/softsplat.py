"""Times splatting against `torch.nn.functional.grid_sample`: `python benchmarks/softsplat.py [--json FILE]`.

All ways run in the same process, turn by turn, so that whatever else the machine does falls on all of them; medians,
and their ratios to grid_sample's forward and backward pass with gradients of image and grid.  Splatting has gradients
of image, flow and metric; "fixed image" has those of flow and metric alone, as where a motion is sought.
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
import torch.nn.functional as F
from goembed_softsplat_warp.config import SoftsplatWarpConfig
from goembed_softsplat_warp.model import MovingImage, SoftsplatWarp, WarpTime
from goembed_softsplat_warp.plain import plain_splat
from goembed_softsplat_warp.splatting import splat
from torch import Tensor

SHAPES = ((1, 4, 256, 448), (8, 3, 64, 64), (1, 32, 256, 448))


class Scene(NamedTuple):
    """What is moved, and how: a smooth flow of some pixels, and the same as a grid for grid_sample."""

    image: Tensor
    flow: Tensor
    metric: Tensor
    grid: Tensor
    upstream: Tensor


def scene(shape: tuple[int, int, int, int], device: torch.device) -> Scene:
    """Random, but for the smoothness of the flow."""
    generator = torch.Generator().manual_seed(0)
    batch, _, height, width = shape
    image, upstream = (torch.randn(shape, generator=generator) for _ in range(2))
    coarse = 5 * torch.randn(batch, 2, max(height // 16, 2), max(width // 16, 2), generator=generator)
    flow = F.interpolate(coarse, size=(height, width), mode="bicubic")
    metric = 5 * torch.randn(batch, 1, height, width, generator=generator)
    x, y = flow[:, 0] + torch.arange(width), flow[:, 1] + torch.arange(height)[:, None]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return Scene(*(part.to(device) for part in (image, flow, metric, grid, upstream)))


def with_backward(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], upstream: Tensor, fixed: int = 0
) -> Callable[[], object]:
    """The pass and its gradients with respect to all inputs but the first `fixed`."""
    inputs = tuple(part.clone().requires_grad_(number >= fixed) for number, part in enumerate(inputs))
    return lambda: torch.autograd.grad(function(*inputs), inputs[fixed:], upstream)


def twice(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], upstream: Tensor, fixed: int = 0
) -> Callable[[], object]:
    """The pass, its gradient, and the gradient of the gradient's squares, as gradient-origin embeddings train."""
    inputs = tuple(part.clone().requires_grad_() for part in inputs)

    def run() -> object:
        first = torch.autograd.grad(function(*inputs), inputs, upstream, create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), inputs)

    return run


def ways(given: Scene) -> dict[str, Callable[[], object]]:
    """Everything that is timed; grid_sample comes first."""
    image, flow, metric, grid, upstream = given

    def sampled(image: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(image, grid, align_corners=False)

    def splatted(mode: str) -> Callable[..., Tensor]:
        return lambda *parts: splat(*parts, mode=mode)

    def plain(*parts: Tensor) -> Tensor:
        return plain_splat("softmax", *parts)

    model = SoftsplatWarp(SoftsplatWarpConfig())
    time = WarpTime(torch.ones(len(image), 1, device=image.device))

    def warped(*signal: Tensor) -> Tensor:
        return model(MovingImage(*signal), time)[:, 0]

    every = (image, flow, metric)
    found = {"grid_sample": with_backward(sampled, (image, grid), upstream)}
    found |= {f"splat {mode}": with_backward(splatted(mode), (image, flow), upstream) for mode in ("sum", "average")}
    found["splat linear"] = with_backward(splatted("linear"), (image, flow, metric.abs() + 0.1), upstream)
    found["splat softmax"] = with_backward(splatted("softmax"), every, upstream)
    found["splat softmax, forward"] = torch.no_grad()(lambda: splat(*every, mode="softmax"))
    found["splat softmax, fixed image"] = with_backward(splatted("softmax"), every, upstream, fixed=1)
    found["plain torch softmax"] = with_backward(plain, every, upstream)
    found["splat softmax, twice"] = twice(splatted("softmax"), every, upstream)
    found["plain torch softmax, twice"] = twice(plain, every, upstream)
    found["forward model, fixed image"] = with_backward(warped, every, upstream, fixed=1)
    return found


def clock(device: torch.device) -> float:
    """Processor time on a CPU, which others do not lengthen much; wall-clock time on a GPU."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def medians(steps: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Seconds of each, taken in turns after two rounds that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 2):
        for name, step in steps.items():
            start = clock(device)
            step()
            if repeat >= 2:
                taken[name].append(clock(device) - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Print one line per size and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for shape in SHAPES:
        seconds = medians(ways(scene(shape, device)), options.repeats, device)
        for name, value in seconds.items():
            ratio = value / seconds["grid_sample"]
            rows.append({"shape": shape, "way": name, "ms": round(value * 1e3, 2), "ratio": round(ratio, 2)})
            print(f"{'x'.join(map(str, shape)):14s} {name:30s} {value * 1e3:8.2f} ms  {ratio:6.2f}")
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
