"""Times our DiT against diffusers' `DiTTransformer2DModel` of equal size: `python benchmarks/dit.py [--json FILE]`.

Both run in the same process, turn by turn, so that whatever else the machine does falls on both; the ratio of the
medians is theirs over ours, and above 1 ours is the faster.
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
from diffusers import DiTTransformer2DModel
from goembed_dit.config import DIT_SIZES, DiTConfig
from goembed_dit.network import DiT
from torch import Tensor, nn


class Case(NamedTuple):
    """One size of network and input."""

    name: str
    batch_size: int
    side_px: int
    in_channels: int
    out_channels: int
    patch_size: int
    hidden_size: int
    depth: int
    num_heads: int


CASES = (
    Case("GAN inversion, 32x32x7, patch 8", 64, 32, 7, 3, 8, hidden_size=192, depth=4, num_heads=3),
    Case("S/8, 32x32x3", 32, 32, 3, 3, 8, *DIT_SIZES["S"]),
    Case("S/2, latents 32x32x4", 4, 32, 4, 8, 2, *DIT_SIZES["S"]),
)


def ours(case: Case, image: Tensor, timestep: Tensor) -> Callable[[], Tensor]:
    """A forward pass of our network."""
    network = DiT(
        DiTConfig(
            in_channels=case.in_channels,
            height=case.side_px,
            width=case.side_px,
            patch_size=case.patch_size,
            hidden_size=case.hidden_size,
            depth=case.depth,
            num_heads=case.num_heads,
            out_channels=case.out_channels,
        )
    )
    shake(network)
    return lambda: network(image, timestep)


def theirs(case: Case, image: Tensor, timestep: Tensor) -> Callable[[], Tensor]:
    """A forward pass of diffusers' network, every item with the label of class 0."""
    network = DiTTransformer2DModel(
        num_attention_heads=case.num_heads,
        attention_head_dim=case.hidden_size // case.num_heads,
        in_channels=case.in_channels,
        out_channels=case.out_channels,
        num_layers=case.depth,
        sample_size=case.side_px,
        patch_size=case.patch_size,
    )
    shake(network)
    labels = torch.zeros_like(timestep)
    return lambda: network(image, timestep, class_labels=labels).sample


def shake(network: nn.Module) -> None:
    """Leave no weight at zero, where gradients would vanish."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.01)


def times(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= 2:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def measure(case: Case, repeats: int) -> list[dict[str, object]]:
    """Forward without gradients, and forward and backward, of both networks."""
    torch.manual_seed(0)
    image = torch.randn(case.batch_size, case.in_channels, case.side_px, case.side_px)
    timestep = torch.randint(0, 1000, (case.batch_size,))
    networks = {"ours": ours(case, image, timestep), "diffusers": theirs(case, image, timestep)}
    rows = []
    for what, make in {"forward": forward_only, "forward+backward": with_backward}.items():
        seconds = times({name: make(forward) for name, forward in networks.items()}, repeats)
        rows.append(
            {
                "case": case.name,
                "batch": case.batch_size,
                "pass": what,
                "ours_ms": round(seconds["ours"] * 1e3, 1),
                "diffusers_ms": round(seconds["diffusers"] * 1e3, 1),
                "ratio": round(seconds["diffusers"] / seconds["ours"], 3),
            }
        )
    return rows


def forward_only(forward: Callable[[], Tensor]) -> Callable[[], object]:
    """The pass without gradients."""
    return torch.no_grad()(forward)


def with_backward(forward: Callable[[], Tensor]) -> Callable[[], object]:
    """The pass and the gradients of every weight."""
    return lambda: forward().square().mean().backward()


def main() -> None:
    """Print one line per case and pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [row for case in CASES for row in measure(case, arguments.repeats)]
    for row in rows:
        print(
            f"{row['case']:32s} batch {row['batch']:3d} {row['pass']:17s} ours {row['ours_ms']:7.1f} ms"
            f"  diffusers {row['diffusers_ms']:7.1f} ms  ×{row['ratio']:.3f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
