"""Time and memory of inverse graphics, split by part, with and without each saving.

    python benchmarks/inverse_graphics.py                  # boxes, sizes of preset=quick
    python benchmarks/inverse_graphics.py --published 8    # sizes of preset=co3d, widths and depth divided by 8

One training step and one sampled scene (10 steps).  Times are of the processor (wall-clock on a GPU), the median over
rounds, and so are ratios; memory is the most that the profiler saw allocated at a time beyond what was there before.
Each line of the second and third table leaves out one saving of ours, and keeps the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from goembed_core.config import resolve
from goembed_core.diffusion import DFM
from goembed_core.precision import autocast
from goembed_core.randomness import ItemRandom
from goembed_core.trees import concatenate
from goembed_inverse_graphics import model as models
from goembed_inverse_graphics.config import InverseGraphicsConfig
from goembed_inverse_graphics.model import Model, Training, split_scene
from goembed_inverse_graphics.solve import Solver
from goembed_multiview_datasets.boxes import BoxDataset
from goembed_multiview_datasets.config import BoxesConfig
from goembed_pixel_aligned.denoiser import guide
from goembed_pixel_aligned.features import look_up, mean_over_views, sample_maps
from torch.nn import functional as F

os.environ.setdefault("KINETO_LOG_LEVEL", "99")
PRECISION = "bf16-if-native"
WITHOUT = {  # what each saving is, and the settings that leave it out
    "estimate at full size": ["denoiser.estimate.downscale=1"],
    "gradient through the estimate's rendering": ["denoiser.estimate.detach=false"],
    "no box": ["forward_model.box=null"],
    "float32": ["train.mixed_precision=no"],
}


def clock(device: torch.device) -> float:
    """Seconds of the processor, or on a GPU of the wall once all is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measure(
    works: dict[str, Callable[[], Any]], device: torch.device, repeats: int
) -> dict[str, tuple[float, float, float]]:
    """Median milliseconds, the median ratio to the first of the same round, and mebibytes held beyond those before.

    Rounds take each in turn, as a machine that is shared is slow at times: what is a ratio is of neighbours.
    """
    for work in works.values():
        work()
    rounds = []
    for _ in range(repeats):
        taken = []
        for work in works.values():
            began = clock(device)
            work()
            taken.append(1e3 * (clock(device) - began))
        rounds.append(taken)
    found = {}
    for number, (name, work) in enumerate(works.items()):
        times = [taken[number] for taken in rounds]
        ratio = statistics.median(taken[number] / taken[0] for taken in rounds)
        found[name] = (statistics.median(times), ratio, peak_mib(work, device))
    return found


def peak_mib(work: Callable[[], Any], device: torch.device) -> float:
    """The running sum of allocations and releases at its highest."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    held = highest = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest / 2**20


class Bench:
    """A model of some settings, one batch, and the parts of a step."""

    def __init__(self, settings: list[str], batch: int, device: torch.device):
        self.config: InverseGraphicsConfig = resolve("inverse_graphics", settings).config
        torch.manual_seed(0)
        self.model: Model = models.build(self.config)
        self.model.denoiser.to(device)
        self.model.forward_model.to(device)
        self.training = Training(self.config, self.model).to(device)
        self.device, self.batch = device, batch
        size = self.model.size[0]
        dataset = BoxDataset(BoxesConfig(size=size, jitter_rad=1.0))
        scenes = dataset.observations(torch.arange(batch, device=device))
        views = self.config.views.model_copy(update={"first_is_context": True})
        self.split = split_scene(scenes, views, ItemRandom(0, range(batch), device=device))

    def cast(self):
        """The precision of the settings."""
        return autocast(self.config.train.mixed_precision, self.device)

    def step(self) -> None:
        """Losses and gradients."""
        self.model.denoiser.zero_grad(set_to_none=True)
        with self.cast():
            terms = self.training.dfm_losses(self.split, ItemRandom(0, range(self.batch), device=self.device))
        sum(terms.losses.values()).backward()

    def parts(self) -> dict[str, Callable[[], Any]]:
        """The forward passes of a training step."""
        denoiser, scoring = self.model.denoiser, self.training.scoring
        random = ItemRandom(0, range(self.batch), device=self.device)
        target = self.split.target
        t = self.model.schedule.draw_timesteps(random)
        both = concatenate([scoring.choose(part, random) for part in (target, self.split.novel)], 1)
        with torch.no_grad(), self.cast():
            features = denoiser.encode(self.split.context)
            estimate = denoiser.estimate(features)
            prepared = denoiser.prepare(features, target.params)
            scene = denoiser.denoise(prepared, target, t)

        def under(work: Callable[[], Any]) -> Callable[[], Any]:
            def run() -> Any:
                with self.cast():
                    return work()

            return run

        return {
            "encoder of the context": under(lambda: denoiser.encode(self.split.context)),
            "rendering of the estimate": under(lambda: denoiser.show(estimate, target.params)),
            "encoder of the noisy target": under(lambda: denoiser.denoise(prepared, target, t)),
            "scored rays of the scene": under(lambda: scoring.look(scene, both, random)),
            "scored rays of the estimate alone": under(lambda: scoring.estimate_error(estimate, both, random)),
        }

    @torch.no_grad()
    def sample(self, cached: bool) -> None:
        """A scene of each context; with kept features, or with those of every step anew."""
        if cached:
            solver = Solver(self.model, 0, self.batch, self.device, self.config.train.mixed_precision)
            solver.samples(self.split.context, self.split.target.params, 1, self.config.sampler)
            return
        dfm = DFM(self.model.forward_model, self.model.denoiser, self.model.schedule, guide=guide)
        shape = (1, 3, *self.model.size)
        random = ItemRandom(0, range(self.batch), device=self.device)
        with self.cast():
            dfm.sample(self.split.context, self.split.target.params, shape, self.config.sampler, random)

    def projection(self) -> dict[str, Callable[[], Any]]:
        """The first layer at the points of the scored rays: projected once a pixel, or once a point."""
        network = self.model.denoiser.field
        channels, width = network.project.in_channels, network.project.out_channels
        renderer = self.model.forward_model.renderer.config
        count = 2 * (self.config.score.patch_px or 0) ** 2 or 2 * self.config.score.rays
        number = count * renderer.samples
        params = concatenate([self.split.target.params, self.split.novel.params], 1)
        shape = (*params.image_size.shape[:2], channels, *self.model.size)
        maps = torch.randn(shape, device=self.device, requires_grad=True)
        points = torch.rand(self.batch, number, 3, device=self.device) - 0.5
        sight = look_up(params.camera, params.image_size, points)
        weight, bias = network.project.weight.reshape(width, channels), network.project.bias

        def before() -> None:
            mapped = network.project(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
            mean_over_views(sample_maps(mapped, sight.place), sight.valid.float()).sum().backward()

        def after() -> None:
            sampled = F.linear(sample_maps(maps, sight.place), weight, bias)
            mean_over_views(sampled, sight.valid.float()).sum().backward()

        def under(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                with self.cast():
                    work()

            return run

        return {f"projected before sampling, {channels} to {width}": under(before), "after": under(after)}


def published(divided_by: int) -> list[str]:
    """The sizes of preset=co3d with widths and depth divided, on boxes."""
    config = resolve("inverse_graphics", ["preset=co3d"]).config
    settings = []
    for part in ("context", "target"):
        network = getattr(config.denoiser.settings, part).network.model_dump()
        network |= {"size": None, "hidden_size": max(64, network["hidden_size"] // divided_by), "num_heads": 4}
        network |= {
            "depth": max(2, network["depth"] // divided_by),
            "out_channels": network["out_channels"] // divided_by,
        }
        network["in_channels"] = 3 if part == "context" else 8
        kept = {key: value for key, value in network.items() if value is not None}
        settings += [f"denoiser.{part}.network={json.dumps(kept)}", f"denoiser.{part}.kernel_px=7",
                     f"denoiser.{part}.upright=false"]  # fmt: skip
    return [
        *settings, "dataset.size=64", f"denoiser.field.width={512 // divided_by}", "denoiser.field.view_blocks=3",
        "denoiser.field.frame=camera", "denoiser.field.surfaces=0",
        "denoiser.field.blocks=2", "forward_model.proposal_samples=[64]", "forward_model.samples=64",
        "denoiser.renderer.samples=32", "score.patch_px=24",
    ]  # fmt: skip


def table(title: str, rows: dict[str, tuple[float, float, float]]) -> None:
    """Print milliseconds and mebibytes of each, and over those of the first."""
    most = next(iter(rows.values()))[2]
    print(f"\n{title}\n{'':52s} {'ms':>9s} {'':>7s} {'MiB':>8s} {'':>7s}")
    for name, (ms, ratio, mib) in rows.items():
        print(f"{name:52s} {ms:9.1f} {ratio:6.2f}x {mib:8.0f} {mib / max(most, 1e-9):6.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=int, metavar="N", help="sizes of preset=co3d, divided by N")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = published(options.published) if options.published else []
    ours = Bench(settings, options.batch, device)
    ending = Bench([*settings, "forward_model.min_transmittance=0.01"], options.batch, device)
    steps, scenes = {"ours": ours.step}, {"ours": lambda: ours.sample(True)}
    scenes["features of the context in every step"] = lambda: ours.sample(False)
    renderer = ours.model.forward_model.renderer.config
    even = 3 * (sum(renderer.proposal_samples) + renderer.samples) // 2
    unproposed = ["forward_model.proposal_samples=[]", f"forward_model.samples={even}"]
    for name, changed in {**WITHOUT, f"{even} even samples, none proposed": unproposed}.items():
        bench = Bench([*settings, *changed], options.batch, device)
        steps[name] = bench.step
        if "gradient" not in name:
            scenes[name] = lambda b=bench: b.sample(True)
    scenes["rays that end at what is opaque"] = lambda: ending.sample(True)
    tables = {
        f"training step by part (forward alone), batch of {options.batch}": {
            "whole step, with gradients": ours.step, **ours.parts(),
        },
        "training step, without": steps,
        "scenes sampled with 10 steps, without": scenes,
        "first layer at all points of scored rays": ours.projection(),
    }  # fmt: skip
    every = {}
    for title, works in tables.items():
        every[title] = measure(works, device, options.repeats)
        table(title, every[title])
    if options.json:
        options.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
