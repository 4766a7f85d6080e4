"""How good sampled motions are: against every future there could have been, and against the one that came."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig, SamplerName
from goembed_core.metrics.bootstrap import bootstrap_interval
from goembed_core.metrics.images import psnr
from goembed_core.metrics.lpips import LPIPS
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.protocols import Dataset, Observations
from goembed_video_datasets.sprites import SpriteDataset
from jaxtyping import Float
from torch import Tensor

from goembed_motion.config import MotionConfig
from goembed_motion.solve import Motions, Solver

BEST_OF = 16
STUDIED: tuple[SamplerName, ...] = ("ddim", "dpm-solver++", "unipc", "ddpm")


class Evaluation(NamedTuple):
    """Everything that the report shows."""

    results: Results
    clips: Observations
    motions: Motions  # of the clips' contexts, leaves (contexts * samples, ...)
    baseline: Motions
    true_flow: Float[Tensor, "contexts 2 height width"] | None  # where it is known
    study: dict[str, dict[int, float]]  # sampler, steps: mean error of the nearest future, in pixels
    seconds: dict[str, float]


def endpoint_error(
    flow: Float[Tensor, "*batch 2 height width"],
    true: Float[Tensor, "*batch 2 height width"],
    mask: Float[Tensor, "*batch 1 height width"],
) -> Float[Tensor, " *batch"]:
    """Mean distance in pixels between where pixels of the mask go and where they are said to go."""
    error = (flow - true).norm(dim=-3) * mask[..., 0, :, :]
    return error.sum((-2, -1)) / mask.sum((-3, -2, -1))


class Judge:
    """One evaluation: the figures are collected here."""

    def __init__(self, config: MotionConfig, solver: Solver, dataset: Dataset, lpips: LPIPS | None):
        self.config, self.solver, self.dataset, self.lpips = config, solver, dataset, lpips
        settings = config.evaluate
        # Items of a film lie next to each other: spread over all of them.
        count = min(settings.contexts, len(dataset))
        self.items = torch.arange(count) * (1 if isinstance(dataset, SpriteDataset) else len(dataset) // count)
        self.clips = dataset.observations(self.items)
        self.images = self.clips.values[:, 0].to(solver.device)
        self.true = self.clips.values[:, 1].to(solver.device)
        self.metrics: dict[str, MetricValue] = {}
        self.baselines: dict[str, dict[str, float]] = {"deterministic": {}, "no_motion": {}}

    def add(self, name: str, values: Tensor, higher_is_better: bool | None, note: str) -> None:
        """A mean over contexts with its interval."""
        interval = bootstrap_interval(values, generator=torch.Generator().manual_seed(0))
        self.metrics[name] = MetricValue(values.mean().item(), higher_is_better, len(values), note, interval)

    def judge_futures(self, motions: Motions, baseline: Motions) -> Tensor:
        """Sprites: which future was sampled how often, and how exactly; returns the true flow."""
        count = self.config.evaluate.samples
        truth, futures = (f(self.items) for f in (self.dataset.truth, self.dataset.futures))
        flow = motions.signal.motion.cpu().unflatten(0, (-1, count))
        probability = futures.probability
        chosen, error = nearest_future(flow, futures.flow, truth.mask, probability)
        self.add("mode_frequency_error", frequency_error(chosen, probability), False,
                 f"mean distance of a future's frequency from its probability, {count} samples a context")  # fmt: skip
        self.add("mode_epe_px", error.mean(1), False, "end-point error of moving pixels to the nearest future")
        best = endpoint_error(flow, truth.flow[:, None], truth.mask[:, None])[:, :BEST_OF].min(1).values
        own = baseline.signal.motion.cpu()
        answer = endpoint_error(own, truth.flow, truth.mask)
        still = endpoint_error(torch.zeros_like(own), truth.flow, truth.mask)
        self.add("best_of_16_epe_px", best, False, "end-point error of moving pixels, best of the first 16 samples")
        self.baselines["deterministic"]["best_of_16_epe_px"] = answer.mean().item()
        self.baselines["no_motion"]["best_of_16_epe_px"] = still.mean().item()
        self.metrics["best_of_16_epe_ratio"] = MetricValue(
            (best.mean() / answer.mean()).item(), False, len(best), "over the deterministic baseline's"
        )
        moved = (own * truth.mask).sum((2, 3)) / truth.mask.sum((2, 3))
        for name, length, note in (
            ("baseline_motion_ratio", moved.norm(dim=1), "length of the mean motion of what moves"),
            ("baseline_speed_ratio", magnitude(own, truth.mask), "mean length of the motion of what moves"),
        ):
            note = f"the deterministic baseline's over the true one's: how far it collapses; {note}"
            self.metrics[name] = MetricValue((length.mean() / still.mean()).item(), None, len(best), note)
        everywhere = flow.norm(dim=2) * (1 - truth.mask)
        self.metrics["background_motion_px"] = MetricValue(
            (everywhere.sum() / ((1 - truth.mask).sum() * count)).item(), False, len(best), "where nothing moves"
        )
        exact = torch.multinomial(probability, count, replacement=True, generator=torch.Generator().manual_seed(0))
        self.baselines["exact"] = {"mode_frequency_error": frequency_error(exact, probability).mean().item()}
        return truth.flow

    def judge_images(self, motions: Motions, baseline: Motions) -> None:
        """PSNR and LPIPS of the best sample to the future that came."""
        count = self.config.evaluate.samples
        flat = motions.target
        repeated = self.true.repeat_interleave(count, 0)
        values = psnr(flat, repeated).unflatten(0, (-1, count))
        self.add("nearest_psnr", values.max(1).values, True, f"the best of {count} samples to the true future, in dB")
        best = values[:, :BEST_OF].max(1)
        self.add("best_of_16_psnr", best.values, True, "the best of the first 16 samples, in dB")
        answers = {"deterministic": baseline.target, "no_motion": self.images}
        for name, images in answers.items():
            figure = psnr(images, self.true).mean().item()
            self.baselines[name] |= {"nearest_psnr": figure, "best_of_16_psnr": figure}
        if self.lpips is not None:
            network = self.lpips.to(self.solver.device)
            shown = flat.unflatten(0, (-1, count))[:, :BEST_OF]
            with torch.no_grad():
                distance = network(shown.flatten(0, 1), self.true.repeat_interleave(BEST_OF, 0))
                self.add("best_of_16_lpips", distance.unflatten(0, (-1, BEST_OF)).min(1).values, False,
                         f"LPIPS (alex) of the best of 16 samples, at {flat.shape[-1]} pixels")  # fmt: skip
                for name, images in answers.items():
                    self.baselines[name]["best_of_16_lpips"] = network(images, self.true).mean().item()

    def diversity(self, motions: Motions, baseline: Motions) -> None:
        """How far samples of one context lie apart."""
        flow = motions.signal.motion.unflatten(0, (-1, self.config.evaluate.samples))
        spread = flow.std(1).norm(dim=1).flatten(1).amax(1)
        self.add("diversity_px", spread.cpu(), None, "standard deviation of the motion where it is greatest, in pixels")
        self.baselines["deterministic"]["diversity_px"] = 0.0
        if self.config.field.futures > 1:
            shown = motions.probability.unflatten(0, (-1, self.config.evaluate.samples)).mean(1)
            self.add(
                "likeliest_probability", shown.cpu(), None, "that the network gives the motion that a sample ends at"
            )

    def study(self) -> dict[str, dict[int, float]]:
        """Sprites: `mode_epe_px` by sampler and number of evaluations, on the same contexts and noise."""
        settings, items = self.config.evaluate, self.items[: self.config.evaluate.steps_contexts]
        truth, futures = self.dataset.truth(items), self.dataset.futures(items)
        images = self.images[: len(items)]

        def error(sampler: SamplerConfig) -> float:
            found = self.solver.samples(images, BEST_OF, sampler, "study").signal.motion.cpu()
            flow = found.unflatten(0, (-1, BEST_OF))
            return nearest_future(flow, futures.flow, truth.mask, futures.probability)[1].mean().item()

        return {
            name: {
                n: error(self.config.sampler.model_copy(update={"name": name, "num_steps": n})) for n in settings.steps
            }
            for name in STUDIED
        }


def nearest_future(
    flow: Float[Tensor, "contexts samples 2 height width"],
    futures: Float[Tensor, "contexts modes 2 height width"],
    mask: Float[Tensor, "contexts 1 height width"],
    probability: Float[Tensor, "contexts modes"],
) -> tuple[Tensor, Tensor]:
    """Which possible future each sample is nearest to, and its end-point error to that, `(contexts, samples)` each."""
    errors = [endpoint_error(flow, futures[:, None, i], mask[:, None]) for i in range(futures.shape[1])]
    table = torch.stack(errors, 2).masked_fill(probability[:, None] == 0, torch.inf)
    error, chosen = table.min(2)
    return chosen, error


def frequency_error(chosen: Tensor, probability: Float[Tensor, "contexts modes"]) -> Float[Tensor, " contexts"]:
    """Mean over the possible futures of |frequency − probability|."""
    frequency = torch.nn.functional.one_hot(chosen, probability.shape[1]).double().mean(1)
    possible = probability > 0
    return ((frequency - probability).abs() * possible).sum(1) / possible.sum(1)


def magnitude(
    flow: Float[Tensor, "batch 2 height width"], mask: Float[Tensor, "batch 1 height width"]
) -> Float[Tensor, " batch"]:
    """Mean length of the motion of the mask's pixels."""
    return endpoint_error(flow, torch.zeros_like(flow), mask)


def evaluate(config: MotionConfig, solver: Solver, dataset: Dataset, lpips: LPIPS | None = None) -> Evaluation:
    """All measurements."""
    judge, seconds = Judge(config, solver, dataset, lpips), {}

    def timed(name: str, part):
        began = time.monotonic()
        result = part()
        seconds[name] = time.monotonic() - began
        return result

    motions = timed("samples", lambda: solver.samples(judge.images, config.evaluate.samples, config.sampler))
    baseline = solver.regress(judge.images)
    true_flow, study = None, {}
    if isinstance(dataset, SpriteDataset):
        true_flow = timed("futures", lambda: judge.judge_futures(motions, baseline))
        study = timed("samplers", judge.study) if config.evaluate.steps else {}
    timed("images", lambda: judge.judge_images(motions, baseline))
    judge.diversity(motions, baseline)
    judge.metrics["seconds_per_sample"] = MetricValue(
        seconds["samples"] / len(motions.target), False, len(motions.target), f"in batches of {solver.batch_size}"
    )
    results = Results(config.task, solver.model.images_seen, judge.metrics, judge.baselines)
    return Evaluation(results, judge.clips, motions, baseline, true_flow, study, seconds)
