"""How good sampled scenes are: against what is true, against each other, and against pixelNeRF's one answer."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from goembed_core.diffusion import split_views
from goembed_core.metrics.bootstrap import bootstrap_distance_interval, bootstrap_interval
from goembed_core.metrics.distances import frechet_distance, kernel_distance
from goembed_core.metrics.features import features_of
from goembed_core.metrics.images import psnr
from goembed_core.metrics.lpips import LPIPS
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.protocols import Dataset, Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import repeat_items, select_items, select_views, tree_map
from goembed_multiview_datasets.boxes import BoxDataset
from goembed_nerf_renderer.fields import RadianceField
from jaxtyping import Bool, Float, Int
from torch import Tensor

from goembed_inverse_graphics.boxes import (
    average_colour,
    chosen_colour,
    exact_frequency_error,
    hidden_faces,
    mean_colour,
    variance_over,
    visible_pixels,
)
from goembed_inverse_graphics.config import EvaluateConfig, InverseGraphicsConfig
from goembed_inverse_graphics.model import held_out
from goembed_inverse_graphics.solve import Samples, Solver, all_scenes


class Evaluation(NamedTuple):
    """Everything that the report shows."""

    results: Results
    scenes: Observations  # of the contexts, values in [-1, 1]
    num_context: int
    target: int  # which view was noised
    samples: Samples
    kept: int  # scenes of each context that were kept
    baseline: RadianceField  # of each context
    seconds: dict[str, float]


def test_scenes(config: InverseGraphicsConfig) -> tuple[Dataset, Observations, int, int]:
    """Unseen scenes, their views in [-1, 1], the number of those of the context, and the target's place behind them.

    Boxes are seen evenly from all around, and the target is opposite of the context; views of other datasets are drawn.
    """
    count, num_context = config.evaluate.contexts, config.views.context
    if config.dataset.name.rpartition(":")[2] == "boxes":
        dataset = held_out(config.dataset, views=config.evaluate.views, jitter_rad=0.0).build()
        items = torch.arange(min(count, len(dataset)))
        target = config.evaluate.views // 2
    else:
        dataset = held_out(config.dataset).build()
        count = min(count, len(dataset))
        items = spread_items(count, len(dataset) // getattr(dataset.config, "draws", 1))
        target = num_context
    scenes = dataset.observations(items)
    if not config.views.first_is_context:
        random = ItemRandom(0, items.tolist(), "evaluation views")
        scenes = split_views(scenes, scenes.values.shape[1], 0, 0, random).context
    return dataset, scenes._replace(values=2 * scenes.values - 1), num_context, target


def spread_items(count: int, scenes: int) -> Int[Tensor, " count"]:
    """Items of a set that goes through its scenes again and again: as many different scenes as there can be."""
    return torch.arange(count) * max(1, scenes // count)


class Networks(NamedTuple):
    """Those that figures are measured with."""

    lpips: LPIPS | None
    features: Any  # a feature network; None for neither Fréchet nor kernel distance

    @classmethod
    def of(cls, config: EvaluateConfig) -> Networks:
        """Those of the settings, once their weights are there."""
        return cls(LPIPS() if config.lpips else None, config.features and config.features.build())


class Judge:
    """One evaluation: the figures are collected here."""

    def __init__(self, config: InverseGraphicsConfig, solver: Solver, networks: Networks):
        self.config, self.solver, self.networks, settings = config, solver, networks, config.evaluate
        dataset, scenes, self.num_context, self.target = test_scenes(config)
        self.scenes = tree_map(lambda leaf: leaf.to(solver.device), scenes)
        self.context = select_views(self.scenes, slice(0, self.num_context))
        self.truth = None
        if isinstance(dataset, BoxDataset):
            self.truth = dataset.truth(torch.arange(len(scenes.values))).mask.to(solver.device)
        self.kept = min(settings.samples, settings.scenes) if self.truth is None else settings.samples
        self.metrics: dict[str, MetricValue] = {}
        self.baselines: dict[str, dict[str, float]] = {"pixelnerf": {}}

    def add(self, name: str, values: Tensor, higher_is_better: bool | None, note: str) -> None:
        """A mean over contexts with its interval."""
        interval = bootstrap_interval(values, generator=torch.Generator().manual_seed(0))
        self.metrics[name] = MetricValue(values.double().mean().item(), higher_is_better, len(values), note, interval)

    def draw(self, count: int, stream: str, keep: int) -> Samples:
        """Samples of every context."""
        at = slice(self.target, self.target + 1)
        sampler = self.config.sampler
        return self.solver.samples(self.context, select_views(self.scenes.params, at), count, sampler, stream, keep)

    def judge_images(self, samples: Samples, baseline: RadianceField) -> None:
        """The target's image: PSNR, LPIPS and distances of distributions, of all samples and of pixelNeRF."""
        count, at = self.config.evaluate.samples, slice(self.target, self.target + 1)
        true = self.scenes.values[:, self.target]
        answer = self.solver.views(baseline, select_views(self.scenes.params, at))[:, 0]
        images, repeated = samples.images[:, 0], true.repeat_interleave(count, 0)
        self.add("psnr", psnr(images, repeated).unflatten(0, (-1, count)).mean(1).cpu(), True,
                 f"of each of {count} samples to the true target, in dB")  # fmt: skip
        self.baselines["pixelnerf"]["psnr"] = psnr(answer, true).mean().item()
        if self.networks.lpips is not None:
            network = self.networks.lpips.to(self.solver.device)
            with torch.no_grad():
                found = torch.cat([network(a, b) for a, b in zip(images.split(64), repeated.split(64), strict=True)])
                self.baselines["pixelnerf"]["lpips"] = network(answer, true).mean().item()
            self.add("lpips", found.unflatten(0, (-1, count)).mean(1).cpu(), False, "LPIPS (alex) to the true target")
        if self.networks.features is not None:
            self._distances(images.unflatten(0, (-1, count))[:, 0], answer, true)

    def _distances(self, images: Tensor, answer: Tensor, true: Tensor) -> None:
        """One sample of each context, as in the paper's table; the true images are those of the same contexts."""
        network = self.networks.features
        if isinstance(network, torch.nn.Module):
            network.to(self.solver.device)
        found, other, real = (features_of(part, network, 16) for part in (images, answer, true))
        note = f"{network.name} features, one sample of {len(images)} contexts against their true targets"
        note += "" if network.name == "inception" else "; not a FID"
        for name, distance in {"frechet_distance": frechet_distance, "kernel_distance": kernel_distance}.items():
            interval = bootstrap_distance_interval(
                distance, found, real, 20, generator=torch.Generator().manual_seed(0)
            )
            self.metrics[name] = MetricValue(distance(found, real), False, len(images), note, interval)
            self.baselines["pixelnerf"][name] = distance(other, real)

    def judge_colours(self, images: Tensor, baseline: RadianceField) -> None:
        """Boxes: how often the hidden faces have which colour; `images` are of the target, (contexts * samples)."""
        hidden, at = hidden_faces(self.truth, self.target), slice(self.target, self.target + 1)
        mask = hidden.mask[:, self.target]
        each = images.unflatten(0, (len(self.truth), -1))[hidden.item]  # units, samples, 3, height, width
        count = each.shape[1]
        colour = mean_colour(each, mask[:, None])
        chosen, distance = chosen_colour(colour)
        frequency = chosen.double().mean(1).cpu()
        exact = exact_frequency_error(count)
        self.add("hidden_colour_frequency_error", (frequency - 0.5).abs(), False,
                 f"mean of |frequency − ½| over contexts; {count} exact draws leave {exact:.3f}")  # fmt: skip
        self.add(
            "hidden_colour_frequency", frequency, None, f"of blue among all {frequency.numel() * count:,} samples; ½"
        )
        self.add(
            "hidden_colour_distance", distance.mean(1).cpu(), False, "from the nearer of the two colours; RGB in [0, 1]"
        )
        middle = average_colour().to(colour)
        self.add("average_colour_distance", (colour - middle).norm(dim=-1).mean(1).cpu(), True,
                 "from the mean of the two colours, which is where pixelNeRF with its one answer is")  # fmt: skip
        answer = self.solver.views(baseline, select_views(self.scenes.params, at))[hidden.item, 0]
        one = mean_colour(answer, mask)
        self.baselines["exact"] = {"hidden_colour_frequency_error": exact, "hidden_colour_frequency": 0.5}
        self.baselines["pixelnerf"] |= {
            "hidden_colour_frequency_error": 0.5,  # one answer is one colour
            "hidden_colour_distance": chosen_colour(one)[1].mean().item(),
            "average_colour_distance": (one - middle).norm(dim=-1).mean().item(),
        }

    def judge_consistency(self, samples: Samples) -> None:
        """Boxes: whether a hidden face has one colour from all sides, against how it differs between samples."""
        around = slice(self.target - 1, self.target + 2)
        params = repeat_items(select_views(self.scenes.params, around), self.kept)
        images = self.solver.views(all_scenes(samples), params).unflatten(0, (-1, self.kept))
        hidden = hidden_faces(self.truth, self.target)
        mask = hidden.mask[:, around]
        known = mask.sum((-1, -2)) >= 8
        colour = mean_colour(images[hidden.item], mask[:, None])
        within, across = variance_over(colour, known)
        self.metrics["scene_consistency"] = MetricValue(
            (within.mean() / across.mean()).item(), False, len(within),
            f"variance of the hidden colour across 3 views over that across {self.kept} samples",
        )  # fmt: skip

    def judge_visible(self, samples: Samples, baseline: RadianceField) -> None:
        """Boxes: agreement with what the context shows, from all around."""
        shown = min(self.kept, self.config.evaluate.scenes)
        others = slice(self.num_context, None)
        true = self.scenes.values[:, others]
        visible = visible_pixels(self.scenes.values[:, 0], true)
        faces = visible & ~(true > 1 - 1e-6).all(2)
        rows = torch.arange(len(true))[:, None] * self.kept + torch.arange(shown)
        scenes = select_items(all_scenes(samples), rows.flatten().to(self.solver.device))
        params = repeat_items(select_views(self.scenes.params, others), shown)
        images = self.solver.views(scenes, params).unflatten(0, (-1, shown))
        answer = self.solver.views(baseline, select_views(self.scenes.params, others))
        for name, mask, note in (
            ("visible_psnr", visible, "of all that the context determines, the background included"),
            ("visible_face_psnr", faces, "of the faces alone that the context shows"),
        ):
            note = f"{note}: {shown} samples of each context from all other views, in dB"
            found = masked_psnr(images, true[:, None].expand_as(images), mask[:, None].expand(-1, shown, -1, -1, -1))
            self.add(name, found.cpu(), True, note)
            self.baselines["pixelnerf"][name] = masked_psnr(answer, true, mask).mean().item()


def masked_psnr(
    images: Float[Tensor, "n *views 3 height width"],
    true: Float[Tensor, "n *views 3 height width"],
    mask: Bool[Tensor, "n *views height width"],
) -> Float[Tensor, " n"]:
    """PSNR of the pixels of a mask in all views of a scene together, in dB; images are in [-1, 1]."""
    error = ((images - true).square().mean(-3) * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)
    return 10 * torch.log10(4 / error)


def evaluate(config: InverseGraphicsConfig, solver: Solver, networks: Networks) -> Evaluation:
    """All measurements."""
    judge, seconds, settings = Judge(config, solver, networks), {}, config.evaluate

    def timed(name: str, part):
        began = time.monotonic()
        result = part()
        seconds[name] = time.monotonic() - began
        return result

    samples = timed("samples", lambda: judge.draw(settings.samples, "sample", judge.kept))
    baseline = solver.estimate(judge.context)
    timed("images", lambda: judge.judge_images(samples, baseline))
    if judge.truth is not None:
        more = settings.frequency_samples - settings.samples
        images = samples.images[:, 0].unflatten(0, (-1, settings.samples))
        if more > 0:
            found = timed("more samples", lambda: judge.draw(more, "more", 0))
            images = torch.cat([images, found.images[:, 0].unflatten(0, (-1, more))], 1)
        judge.judge_colours(images.flatten(0, 1), baseline)
        timed("consistency", lambda: judge.judge_consistency(samples))
        timed("visible parts", lambda: judge.judge_visible(samples, baseline))
    number = len(samples.images)
    judge.metrics["seconds_per_scene"] = MetricValue(
        seconds["samples"] / number, False, number, f"in batches of {solver.batch_size}"
    )
    results = Results(config.task, solver.model.images_seen, judge.metrics, judge.baselines)
    return Evaluation(results, judge.scenes, judge.num_context, judge.target, samples, judge.kept, baseline, seconds)
