"""Times our StyleGAN2 synthesis against grouped convolutions: `python benchmarks/stylegan2.py [--json FILE]`.

Forward and backward to `w` of a frozen generator, as inversion and DFM use it.  The other side is the usual
formulation: weights per sample in grouped convolutions, contiguous tensors, float32.  Both run in the same process,
turn by turn, in processor time, so that whatever else the machine does falls on both; the ratio of the medians is
theirs over ours, and above 1 ours is the faster.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from goembed_core.precision import native_bf16
from goembed_stylegan_synth.config import GeneratorConfig
from goembed_stylegan_synth.layers import binomial_filter
from goembed_stylegan_synth.networks import Generator
from goembed_stylegan_synth.weights import build_generator
from torch import Tensor


class GroupedSynthesis:
    """The same network on the same parameters: one group of weights for each sample."""

    def __init__(self, generator: Generator):
        self.synthesis = generator.synthesis

    def __call__(self, ws: Tensor) -> Tensor:
        x, image, row = None, None, 0
        for side in self.synthesis.resolutions:
            block = self.synthesis.get_submodule(f"b{side}")
            if x is None:
                x = block.const.expand(len(ws), -1, -1, -1)
            for layer in [block.conv1] if block.is_first else [block.conv0, block.conv1]:
                x = self._conv(x, layer.weight, layer.affine(ws[:, row]), layer.up, demodulate=True)
                x = x + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
                x = (F.leaky_relu(x, 0.2) * math.sqrt(2)).clamp(-layer.clamp, layer.clamp)
                row += 1
            styles = block.torgb.affine(ws[:, row]) * block.torgb.style_gain
            rgb = self._conv(x, block.torgb.weight, styles, up=False, demodulate=False)
            rgb = (rgb + block.torgb.bias[:, None, None]).clamp(-block.torgb.clamp, block.torgb.clamp)
            image = rgb if image is None else self._upsample(image) + rgb
        return image

    def _conv(self, x: Tensor, weight: Tensor, styles: Tensor, up: bool, demodulate: bool) -> Tensor:
        batch = len(x)
        weights = weight * styles[:, None, :, None, None]
        if demodulate:
            weights = weights * (weights.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        x = x.reshape(1, -1, *x.shape[2:])
        if not up:
            x = F.conv2d(x, weights.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
        else:
            x = F.conv_transpose2d(x, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        x = x.reshape(batch, -1, *x.shape[2:])
        return self._filter(F.pad(x, (1, 1, 1, 1))) if up else x

    def _upsample(self, image: Tensor) -> Tensor:
        batch, channels, height, width = image.shape
        stuffed = image.new_zeros(batch, channels, height, 2, width, 2)
        stuffed[:, :, :, 0, :, 0] = image
        return self._filter(F.pad(stuffed.reshape(batch, channels, 2 * height, 2 * width), (2, 1, 2, 1)))

    def _filter(self, x: Tensor) -> Tensor:
        weight = (4 * binomial_filter()).to(x.device).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(x, weight, groups=x.shape[1])


def forward_and_backward(synthesize: Callable[[Tensor], Tensor], ws: Tensor) -> tuple[Tensor, Tensor]:
    """The image, and the gradient of its mean square with respect to `w`."""
    ws = ws.clone().requires_grad_()
    image = synthesize(ws)
    (gradient,) = torch.autograd.grad(image.float().square().mean(), ws)
    return image.detach(), gradient


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Processor time on a CPU, wall-clock time on a GPU."""
    if device.type == "cpu":
        began = time.process_time()
        run()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def relative_error(value: Tensor, expected: Tensor) -> float:
    return ((value - expected).norm() / expected.norm()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    generator = build_generator(GeneratorConfig(resolution=options.resolution)).requires_grad_(False).to(device)
    ws = torch.randn(options.batch_size, generator.num_ws, generator.synthesis.w_dim, device=device)
    grouped = GroupedSynthesis(generator)
    fast = build_generator(GeneratorConfig(resolution=options.resolution)).requires_grad_(False).to(device)
    fast.load_state_dict(generator.state_dict())
    fast.to(memory_format=torch.channels_last)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"grouped float32": grouped, "ours float32": fast.synthesis}
    if native_bf16(device):
        ways["ours bfloat16"] = lambda ws: fast.synthesis(ws, low_precision=torch.bfloat16)

    results = {name: forward_and_backward(way, ws) for name, way in ways.items()}  # also the warm-up
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            times[name].append(seconds(lambda way=way: forward_and_backward(way, ws), device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    image, gradient = results["grouped float32"]
    figures = {
        name: {
            "seconds": median,
            "ratio": medians["grouped float32"] / median,
            "image_error": relative_error(results[name][0], image),
            "gradient_error": relative_error(results[name][1], gradient),
        }
        for name, median in medians.items()
    }
    print(f"batch {options.batch_size}, {options.resolution}x{options.resolution}, {torch.get_num_threads()} thread(s)")
    for name, figure in figures.items():
        print(
            f"{name:16s} {figure['seconds']:7.2f} s   {figure['ratio']:5.2f}x   "
            f"error: image {figure['image_error']:.1e}, gradient {figure['gradient_error']:.1e}"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
