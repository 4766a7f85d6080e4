"""How good sampled objects are: like true ones, like what was given, and different where nothing was seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from goembed_core.metrics.bootstrap import bootstrap_distance_interval, bootstrap_interval, mean, median
from goembed_core.metrics.distances import frechet_distance, kernel_distance
from goembed_core.metrics.features import features_of
from goembed_core.metrics.images import psnr
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.protocols import Observations
from goembed_core.trees import repeat_items, select_views
from jaxtyping import Float
from torch import Tensor

from goembed_fusion.checkerboard import checkerboard_energy, slices
from goembed_fusion.generation.config import GOEmbedFusionConfig
from goembed_fusion.generation.judged import Judged, judged_views
from goembed_fusion.generation.model import TASK
from goembed_fusion.generation.solve import Samples, Solver
from goembed_fusion.generation.voxels import VoxelDenoiser
from goembed_fusion.scenes import Scenes

SEED = 0  # of the bootstrap


def frechet(one: Float[Tensor, "n features"], other: Float[Tensor, "m features"]) -> float:
    """The Fréchet distance, in coordinates of what both sets span: the same, and quick where that is less."""
    both = torch.cat([one, other]).double()
    if len(both) < both.shape[1]:
        basis = torch.linalg.qr(both.T).Q
        one, other = one.double() @ basis, other.double() @ basis
    return frechet_distance(one, other)


DISTANCES = {"frechet_distance": frechet, "kernel_distance": kernel_distance}


class Evaluation(NamedTuple):
    """Everything that the report shows."""

    results: Results
    judged: Judged
    samples: Samples  # from the fewest views, those of an object next to each other
    spread: Float[Tensor, "objects 2 height width"]  # standard deviation over samples, seen from both sides
    unconditional: Samples
    regression: Float[Tensor, "objects ..."] | None  # from the fewest views
    psnr: dict[str, dict[int, Tensor]]
    seconds: dict[str, float]


class Judge:
    """One evaluation: the figures are collected here."""

    def __init__(self, config: GOEmbedFusionConfig, solver: Solver, scenes: Scenes):
        self.config, self.settings, self.solver = config, config.evaluate, solver
        self.judged = judged_views(config, scenes, solver.device)
        self.fewest = min(self.settings.context)
        self.metrics: dict[str, MetricValue] = {}
        self.baselines: dict[str, dict[str, float]] = {}
        self.psnr: dict[str, dict[int, Tensor]] = {}
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, part: Callable[[], Any]) -> Any:
        """What a part finds, and how long that takes."""
        began = time.monotonic()
        found = part()
        self.seconds[name] = time.monotonic() - began
        return found

    def add(
        self, name: str, values: Tensor, higher: bool | None, note: str, statistic: Callable[[Tensor], Tensor] = mean
    ) -> None:
        """A statistic over objects, with its interval."""
        generator = torch.Generator().manual_seed(SEED)
        interval = bootstrap_interval(values, statistic, n=self.settings.intervals, generator=generator)
        self.metrics[name] = MetricValue(statistic(values.double()).item(), higher, len(values), note, tuple(interval))

    def sampled(self, count: int, number: int) -> Samples:
        """So many samples of each object, from so many views; no views: of any object."""
        context = select_views(self.judged.context, slice(0, count))
        known = self.solver.encode(self.solver.model.denoiser, context)
        return self.solver.samples(known, self.judged.target.params, number, self.config.sampler, f"context {count}")

    def seen(self, samples: Samples, views: Observations, number: int) -> Float[Tensor, "objects samples views ..."]:
        """What samples show from some views."""
        params = repeat_items(views.params, number)
        return self.solver.views(self.solver.model.denoiser, samples.signals, params).unflatten(0, (-1, number))

    def regressed(self, count: int) -> Float[Tensor, "objects ..."]:
        """The deterministic reconstruction from so many views."""
        context = select_views(self.judged.context, slice(0, count))
        return self.solver.regress(self.solver.encode(self.solver.model.regression, context))

    def answered(self, signals: Tensor) -> Float[Tensor, "objects views 3 height width"]:
        """What reconstructions show from the judged views."""
        return self.solver.views(self.solver.model.regression, signals, self.judged.views.params)

    def judge_reconstruction(self, count: int, images: Float[Tensor, "objects samples views ..."]) -> None:
        """PSNR of samples in views that were neither given nor noised, beside that of the regression."""
        true = self.judged.views.values
        found = {"samples": _psnr(images, true[:, None].expand_as(images)).mean(1)}
        if images.shape[1] > 1:
            found["mean_of_samples"] = _psnr(images.mean(1), true)
        if self.solver.model.regression is not None:
            found["regression"] = _psnr(self.answered(self.regressed(count)), true)
        context = self.judged.context.values[:, :count]
        found["mean_image"] = _psnr(context.mean(1, keepdim=True).expand_as(true), true)
        found["white"] = _psnr(torch.ones_like(true), true)
        note = f"dB, {count} given, {true.shape[1]} views that are neither given nor noised; of each sample"
        self.add(f"psnr_k{count}", found["samples"], True, note)
        for name, values in found.items():
            self.psnr.setdefault(name, {})[count] = values
            if name != "samples":
                self.baselines.setdefault(name, {})[f"psnr_k{count}"] = values.mean().item()

    def judge_distances(self, name: str, count: int, images: Float[Tensor, "objects views 3 height width"]) -> None:
        """How far renderings of one sample of each object, so many views given, are from its true images."""
        if self.settings.features is None:
            return
        others = {"other_views": self.judged.others.values}
        if self.solver.model.regression is not None:
            others["regression"] = self.answered(self.regressed(count))
        network = self.settings.features.build()
        if isinstance(network, torch.nn.Module):
            network.to(self.solver.device)
        sets = {"": images, "true": self.judged.views.values, **others}
        found = {key: features_of(values.flatten(0, 1), network, 32) for key, values in sets.items()}
        number = len(found[""])
        note = f"{network.name} features, {number} renderings of samples, {count} given, against the true images "
        note += "from the same cameras"
        note += "" if network.name == "inception" else "; not a FID"
        for measure, distance in DISTANCES.items():
            generator = torch.Generator().manual_seed(SEED)
            interval = bootstrap_distance_interval(distance, found[""], found["true"], 20, generator=generator)
            value = distance(found[""], found["true"])
            self.metrics[f"{measure}{name}"] = MetricValue(value, False, number, note, tuple(interval))
            for key in others:
                self.baselines.setdefault(key, {})[f"{measure}{name}"] = distance(found[key], found["true"])

    def judge_spread(self, samples: Samples, number: int) -> Float[Tensor, "objects 2 height width"]:
        """Whether samples agree on the side that is given, and differ on the other."""
        images = self.seen(samples, self.judged.sides, number)
        maps = images.std(1).mean(2)
        near, far = maps.flatten(2).mean(2).double().cpu().unbind(1)
        note = f"standard deviation over {number} samples from {self.fewest} given, of images in [-1, 1], seen from the"
        self.add("spread_seen", near, None, f"{note} view nearest to the first given")
        self.add("spread_unseen", far, None, f"{note} view farthest from it")
        note = "geometric mean over objects of spread_unseen / spread_seen; above 1: samples differ where none looked"
        self.add("spread_ratio", far / near, True, note, lambda values: values.log().mean(-1).exp())
        return maps

    def judge_grids(self, sampled: Tensor, regression: Tensor | None) -> None:
        """The checkerboard of sampled planes, or of the slices of sampled voxels."""
        network = self.solver.model.denoiser
        note = "median energy of the planes, or slices, at the patches' frequency over that around it; 1: none"

        def energy(grids: Tensor) -> Tensor:
            planes = slices(grids) if isinstance(network, VoxelDenoiser) else grids
            return checkerboard_energy(planes.cpu(), network.config.patch_size).float()

        self.add("checkerboard_energy", energy(sampled), False, note, median)
        if regression is not None:
            self.baselines["regression"]["checkerboard_energy"] = median(energy(regression)).item()


def evaluate(config: GOEmbedFusionConfig, solver: Solver, scenes: Scenes) -> Evaluation:
    """All measurements."""
    judge, settings = Judge(config, solver, scenes), config.evaluate
    fewest, many = judge.fewest, settings.samples

    shown = judge.timed(f"samples from {fewest}", lambda: judge.sampled(fewest, many))
    images = judge.seen(shown, judge.judged.views, many)
    answers = judge.regressed(fewest) if solver.model.regression is not None else None
    judge.judge_reconstruction(fewest, images)
    for count in sorted(settings.context)[1:]:
        found = judge.timed(f"samples from {count}", lambda c=count: judge.sampled(c, 1))
        judge.judge_reconstruction(count, judge.seen(found, judge.judged.views, 1))
    spread = judge.judge_spread(shown, many)
    judge.judge_grids(shown.signals, answers)
    free = judge.timed("samples from nothing", lambda: judge.sampled(0, 1))
    judge.timed("distances", lambda: judge.judge_distances("", fewest, images[:, 0]))
    seen = judge.seen(free, judge.judged.views, 1)[:, 0]
    judge.timed("distances of samples from nothing", lambda: judge.judge_distances("_unconditional", 0, seen))
    number, steps = len(shown.signals), config.sampler.num_steps
    seconds = judge.seconds[f"samples from {fewest}"] / number
    judge.metrics["seconds_per_sample"] = MetricValue(seconds, False, number, f"{config.sampler.name}, {steps} steps")
    results = Results(TASK, solver.model.facts["images_seen"], judge.metrics, judge.baselines)
    return Evaluation(results, judge.judged, shown, spread, free, answers, judge.psnr, judge.seconds)


def _psnr(
    images: Float[Tensor, "objects *rest 3 height width"], true: Float[Tensor, "objects *rest 3 height width"]
) -> Float[Tensor, "objects ..."]:
    """Of each image, in dB, the mean over views, which are last but three."""
    found = psnr(images.flatten(0, -4), true.flatten(0, -4)).unflatten(0, images.shape[:-3])
    return found.mean(-1).cpu()
