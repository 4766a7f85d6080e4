"""Times gradient-origin embeddings by autograd and by the shortcut.

`python benchmarks/gradient_origins.py [--json FILE] [--device cuda]`.

Four views of 48 x 48 of each of two scenes; encoded without recording, and encoded and differentiated in the decoder (a
double backward pass).  A plain rendering, forward and backward, is the unit.  All ways run in one process, turn by
turn, so that whatever else the machine does falls on all of them; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from goembed_core import plugins
from goembed_core.protocols import Observations
from goembed_core.trees import named_leaves, tree_map
from goembed_encoder.config import EncodingConfig
from goembed_encoder.encoder import GOEmbed
from goembed_nerf_renderer.cameras import Camera, look_at, make_intrinsics, whole_image
from torch import Tensor, nn

MODELS = {"triplane": {"resolution": 32, "channels": 16}, "voxels": {"resolution": 24, "channels": 16}}
VIEWS, SIDE, SAMPLES = 4, 48, 24


class Plain(nn.Module):
    """A forward model without its shortcut."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, signal: Tensor, params: tuple) -> Tensor:
        return self.model(signal, params)

    def origin(self, batch_size: int, device: torch.device) -> Tensor:
        return self.model.origin(batch_size, device)


def observe(model: nn.Module, scenes: int, device: torch.device) -> tuple[Tensor, Observations]:
    """Random signals, seen from around them."""
    generator = torch.Generator().manual_seed(0)
    signal, _ = model.example(scenes, generator)
    positions = 3 * nn.functional.normalize(torch.randn(scenes, VIEWS, 3, generator=generator), dim=-1)
    pose = look_at(positions, torch.zeros(3), torch.tensor([0.0, 0.02, 1.0]))
    focal, centre = torch.full((scenes, VIEWS), 1.2 * SIDE), torch.full((scenes, VIEWS), SIDE / 2)
    params = whole_image(Camera(pose, make_intrinsics(focal, focal, centre, centre)), SIDE, SIDE)
    signal, params = (tree_map(lambda leaf: leaf.to(device), tree) for tree in (signal, params))
    with torch.no_grad():
        return signal, Observations(model(signal, params), params)


def measure(name: str, repeats: int, device: torch.device) -> dict[str, float]:
    """Seconds of each way."""
    torch.manual_seed(0)
    settings = MODELS[name] | {"renderer": {"samples": SAMPLES, "proposal_samples": []}}
    model = plugins.build("forward-model", name, settings).to(device)
    signal, seen = observe(model, 2, device)
    encoders = {
        way: GOEmbed(m, EncodingConfig(scale="none")) for way, m in (("shortcut", model), ("autograd", Plain(model)))
    }
    with torch.no_grad():
        found = [encoder(seen) for encoder in encoders.values()]
    error = (found[0] - found[1]).abs().max() / found[1].abs().max()
    assert error < 1e-5, f"the two differ by {error:.2g}"

    def render() -> None:
        leaf = signal.detach().requires_grad_()
        (model(leaf, seen.params) - seen.values).square().sum().backward()

    def encode(way: str) -> None:
        with torch.no_grad():
            encoders[way](seen)

    def differentiate(way: str) -> None:
        encoding = encoders[way](seen)
        sum(leaf.square().sum() for leaf in named_leaves(encoding, "").values()).backward()

    ways = {"render and backward": render}
    for way in encoders:
        ways[f"encode, {way}"] = lambda way=way: encode(way)
        ways[f"encode and differentiate, {way}"] = lambda way=way: differentiate(way)
    seconds: dict[str, list[float]] = {key: [] for key in ways}
    for turn in range(repeats + 1):
        for key, run in ways.items():
            began = time.process_time() if device.type == "cpu" else time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            ended = time.process_time() if device.type == "cpu" else time.perf_counter()
            if turn:  # the first one warms up
                seconds[key].append(ended - began)
    return {key: statistics.median(values) for key, values in seconds.items()} | {"largest error": error.item()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {name: measure(name, options.repeats, torch.device(options.device)) for name in MODELS}
    for name, found in figures.items():
        unit = found["render and backward"]
        print(f"{name}, largest difference of the two ways {found['largest error']:.1e} of the largest value")
        for key, value in found.items():
            if key != "largest error":
                print(f"  {key:40s} {1000 * value:8.1f} ms {value / unit:6.2f}")
        for what in ("encode", "encode and differentiate"):
            print(f"  {what}: shortcut {found[f'{what}, autograd'] / found[f'{what}, shortcut']:.1f}x faster")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
