"""The figures of GAN inversion: distances, consistency, the posterior check, and the sampler study."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerName
from goembed_core.metrics.bootstrap import bootstrap_distance_interval, bootstrap_interval
from goembed_core.metrics.distances import frechet_distance, kernel_distance
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.progress import ProgressLine
from goembed_core.protocols import ClassifierNetwork, FeatureNetwork, Observations
from goembed_core.trees import repeat_items, select_items
from jaxtyping import Float, Int
from torch import Tensor

from goembed_gan_inversion.config import GANInversionConfig, RefineConfig
from goembed_gan_inversion.posterior import Posterior, nearest, summarise, total_variation
from goembed_gan_inversion.refine import patch_error
from goembed_gan_inversion.solve import Solutions, Solver

STUDIED: tuple[SamplerName, ...] = ("ddim", "dpm-solver++", "unipc")


class PosteriorCheck(NamedTuple):
    """Posteriors of every way to answer, one per context."""

    methods: dict[str, list[Posterior]]  # dfm, refined, deterministic, unconditional, rejection
    floor: Float[Tensor, " contexts"]  # total variation of two halves of the rejection set
    rejection_psnr: Float[Tensor, " contexts"]


class Evaluation(NamedTuple):
    """Everything that the report shows."""

    results: Results
    study: dict[str, dict[int, float]]  # sampler, steps: Fréchet distance
    check: PosteriorCheck
    seconds: dict[str, float]


def evaluate(config: GANInversionConfig, solver: Solver, features: FeatureNetwork, line: ProgressLine) -> Evaluation:
    """Measure a model.  Floors and baselines are measured on the same contexts in the same run."""
    judge = _Judge(config, solver, features)
    parts: list[tuple[str, Callable[[], object]]] = [
        ("samples", judge.measure_samples),
        ("refinement", judge.measure_refinement),
        ("posterior check", judge.check_posterior),
        ("samplers", judge.study_samplers),
    ]
    for number, (name, part) in enumerate(parts):
        line.advance_to(number, name)
        began = time.monotonic()
        part()
        judge.seconds[name] = time.monotonic() - began
    line.advance_to(len(parts))
    results = Results(config.task, solver.model.images_seen, judge.metrics, judge.baselines)
    return Evaluation(results, judge.study, judge.check, judge.seconds)


class _Judge:
    def __init__(self, config: GANInversionConfig, solver: Solver, features: FeatureNetwork):
        self.config, self.solver, self.features = config, solver, features
        self.metrics: dict[str, MetricValue] = {}
        self.baselines: dict[str, dict[str, float]] = {"deterministic": {}, "unconditional": {}, "floor": {}}
        self.study: dict[str, dict[int, float]] = {}
        self.seconds: dict[str, float] = {}

    def measure_samples(self) -> None:
        """Distances of samples to the true images of the same contexts, and consistency with the patch."""
        count = self.config.evaluate.contexts
        scenes = self.solver.scenes(count, "scenes")
        began = time.monotonic()
        self.samples = self.solver.sample(scenes.context, self.config.sampler)
        per_sample = (time.monotonic() - began) / count
        self.regressed = self.solver.regress(scenes.context)
        self.context, self.true = scenes.context, scenes.target.values[:, 0]

        self.true_features = self._features(self.true)
        answers = {"deterministic": self.regressed.images, "unconditional": self.solver.prior(count, "prior").images,
                   "floor": self.solver.prior(count, "floor").images}  # fmt: skip
        self._distances("", self._features(self.samples.images), {n: self._features(i) for n, i in answers.items()})
        psnr = self._psnr(self.samples, self.context)
        self._mean("patch_psnr", psnr, True, "dB on the visible patch, raw sample")
        self.baselines["deterministic"]["patch_psnr"] = self._psnr(self.regressed, self.context).mean().item()
        sampler = self.config.sampler
        self.metrics["seconds_per_sample"] = MetricValue(
            per_sample, False, count, f"{sampler.name}, {sampler.num_steps} steps, {self.solver.batch_size} at a time"
        )

    def measure_refinement(self) -> None:
        """The same samples, refined on the visible patch."""
        refine = self._refinement()
        count = min(self.config.evaluate.refined_contexts or len(self.true), len(self.true))
        context = select_items(self.context, slice(count))
        raw = select_items(self.samples, slice(count))
        refined = self.solver.refine(raw, context, refine)
        baseline = self.solver.refine(select_items(self.regressed, slice(count)), context, refine)
        note = f"dB on the visible patch after {refine.steps} steps of refinement"
        self._mean("patch_psnr_refined", self._psnr(refined, context), True, note)
        self.baselines["deterministic"]["patch_psnr_refined"] = self._psnr(baseline, context).mean().item()
        # Raw again on this subset: distances of different numbers of samples cannot be compared.
        truth = self.true_features[:count]
        for name, solutions in {"refined": refined, "raw_subset": raw}.items():
            value = frechet_distance(self._features(solutions.images), truth)
            note = f"{self.features.name} features, {count} contexts; compare refined with raw_subset"
            self.metrics[f"frechet_distance_{name}"] = MetricValue(value, False, count, note)
        self.baselines["deterministic"]["frechet_distance_refined"] = frechet_distance(
            self._features(baseline.images), truth
        )

    def check_posterior(self) -> None:
        """Samples against the generator images nearest to the patch, for a few contexts and many samples."""
        settings = self.config.evaluate
        contexts, count = settings.posterior_contexts, settings.posterior_samples
        scenes = self.solver.scenes(contexts, "posterior scenes")
        pool = self.solver.prior(settings.posterior_pool, "pool").images
        found = nearest(pool, scenes.context, count)
        rejection = pool[found.flatten()]
        sampled = self.solver.samples(scenes.context, count, self.config.sampler, "posterior")
        answers = {
            "dfm": sampled.images,
            "unconditional": self.solver.prior(contexts * count, "posterior prior").images,
            "rejection": rejection,
            "deterministic": self.solver.regress(scenes.context).images,
        }
        methods = {name: self._posteriors(images, scenes.context) for name, images in answers.items()}
        few = min(settings.refined_posterior_contexts, contexts)
        if few:
            context = select_items(scenes.context, slice(few))
            refined = self.solver.refine(
                select_items(sampled, slice(few * count)), repeat_items(context, count), self._refinement()
            )
            methods["refined"] = self._posteriors(refined.images, context)
        repeated = repeat_items(scenes.context, count)
        psnr = _psnr(patch_error(rejection[:, None], repeated)).view(contexts, count).mean(1)
        self.check = PosteriorCheck(methods, self._floor(rejection, contexts), psnr)
        self._posterior_metrics(few)

    def study_samplers(self) -> None:
        """Quality against the number of steps, for each deterministic sampler."""
        count = min(self.config.evaluate.steps_contexts, len(self.true))
        context, truth = select_items(self.context, slice(count)), self.true_features[:count]
        for name in STUDIED:
            for steps in self.config.evaluate.steps:
                sampler = self.config.sampler.model_copy(update={"name": name, "num_steps": steps})
                images = self.solver.sample(context, sampler).images
                self.study.setdefault(name, {})[steps] = frechet_distance(self._features(images), truth)
        fast, slow = self.study.get("unipc", {}).get(10), self.study.get("ddim", {}).get(50)
        if fast is not None and slow is not None:
            note = f"Fréchet distance of UniPC-10 over that of DDIM-50, {self.features.name} features"
            self.metrics["unipc10_over_ddim50"] = MetricValue(fast / slow, False, count, note)

    def _distances(self, suffix: str, own: Tensor, others: dict[str, Tensor]) -> None:
        n = len(own)
        for name, distance in {"frechet_distance": frechet_distance, "kernel_distance": kernel_distance}.items():
            interval = bootstrap_distance_interval(distance, own, self.true_features, generator=self._generator())
            note = f"{self.features.name} features, {n} contexts, against their true images"
            self.metrics[name + suffix] = MetricValue(distance(own, self.true_features), False, n, note, interval)
            for other, features in others.items():
                self.baselines[other][name + suffix] = distance(features, self.true_features)

    def _posterior_metrics(self, few: int) -> None:
        methods = self.check.methods
        reference = torch.stack([p.classes for p in methods["rejection"]])
        spread = torch.stack([p.std_outside for p in methods["rejection"]])
        of = f"{self.config.evaluate.posterior_samples} samples of each context against the same number nearest of "
        of += f"{self.config.evaluate.posterior_pool} generator images"

        def tv(name: str) -> Tensor:
            classes = torch.stack([p.classes for p in methods[name]])
            return total_variation(classes, reference[: len(classes)])

        def ratio(name: str) -> Tensor:
            own = torch.stack([p.std_outside for p in methods[name]])
            return own / spread[: len(own)]

        note = f"pixel standard deviation outside the patch; 1 is right; {of}"
        self._mean("pixel_std_ratio", ratio("dfm"), None, note)
        self.baselines["unconditional"]["pixel_std_ratio"] = ratio("unconditional").mean().item()
        if self._num_classes():
            self._mean("class_tv", tv("dfm"), False, f"total variation of {self.features.name} class histograms; {of}")
            self.baselines["deterministic"]["class_tv"] = tv("deterministic").mean().item()
            self.baselines["unconditional"]["class_tv"] = tv("unconditional").mean().item()
            self.baselines["floor"]["class_tv"] = self.check.floor.mean().item()
        if few:
            for name, method in {"refined": "refined", "raw_subset": "dfm"}.items():
                note = "compare refined with raw_subset"
                self._mean(f"pixel_std_ratio_{name}", ratio(method)[:few], None, note)
                if self._num_classes():
                    self._mean(f"class_tv_{name}", tv(method)[:few], False, note)

    def _posteriors(self, images: Tensor, context: Observations) -> list[Posterior]:
        masks = context.values[:, 0, -1:]
        per_context = images.unflatten(0, (len(masks), -1))
        classes = self._classes(images).unflatten(0, (len(masks), -1))
        rows = zip(per_context, classes, masks, strict=True)
        return [summarise(shown, labels, self._num_classes(), mask) for shown, labels, mask in rows]

    def _floor(self, rejection: Tensor, contexts: int) -> Tensor:
        """Total variation of two random halves of each rejection set."""
        classes = self._classes(rejection).unflatten(0, (contexts, -1))
        order = torch.rand(classes.shape, generator=self._generator()).argsort(1)
        shuffled = classes.gather(1, order.to(classes.device))
        half = classes.shape[1] // 2
        first, second = (
            torch.nn.functional.one_hot(part, max(self._num_classes(), 1)).double().mean(1)
            for part in (shuffled[:, :half], shuffled[:, half : 2 * half])
        )
        return total_variation(first, second)

    def _features(self, images: Tensor) -> Float[Tensor, "n features"]:
        with torch.no_grad():
            return torch.cat([self.features(part) for part in images.split(self.solver.batch_size)])

    def _classes(self, images: Tensor) -> Int[Tensor, " n"]:
        if not isinstance(self.features, ClassifierNetwork):
            return torch.zeros(len(images), dtype=torch.long, device=images.device)
        with torch.no_grad():
            return torch.cat([self.features.logits(part).argmax(1) for part in images.split(self.solver.batch_size)])

    def _num_classes(self) -> int:
        return len(self.features.classes) if isinstance(self.features, ClassifierNetwork) else 0

    def _psnr(self, solutions: Solutions, context: Observations) -> Tensor:
        return _psnr(patch_error(solutions.images[:, None], context))

    def _mean(self, name: str, values: Tensor, higher_is_better: bool | None, note: str) -> None:
        interval = bootstrap_interval(values, generator=self._generator()) if len(values) > 1 else None
        self.metrics[name] = MetricValue(values.mean().item(), higher_is_better, len(values), note, interval)

    def _refinement(self) -> RefineConfig:
        # An evaluation always measures refinement; 0 steps in the settings means the default number.
        return self.config.refine if self.config.refine.steps else RefineConfig()

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.solver.seed)


def _psnr(error: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """PSNR of images in [-1, 1] from their mean squared error."""
    return 10 * torch.log10(4.0 / error.clamp(min=1e-10))
