"""Every method on one fixed list of held-out objects and views: means, paired differences, intervals over objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import torch
from goembed_core.metrics.bootstrap import bootstrap_interval, mean, median
from goembed_core.metrics.images import psnr
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.progress import ProgressLine
from goembed_core.protocols import Observations
from jaxtyping import Float, Int
from torch import Tensor

from goembed_fusion.checkerboard import checkerboard_energy
from goembed_fusion.config import EvaluateConfig, Unpatch
from goembed_fusion.fitting import fit
from goembed_fusion.methods import Model, embed, name_of
from goembed_fusion.scenes import HeldOut, Scenes, fixed_list
from goembed_fusion.transformer import PlaneTransformer

SEED = 0  # of the bootstrap
UNPATCH = get_args(Unpatch)
FITTED = "fit_same_views"

Scores = dict[int, Float[Tensor, " objects"]]  # by the number of sources: PSNR of each object, the mean of its views


class Evaluation(NamedTuple):
    """Everything that the report shows."""

    results: Results
    held_out: HeldOut
    scores: dict[str, Scores]
    at_sources: dict[str, Scores]  # of the views that were encoded, of the objects that were fitted
    differences: dict[str, Scores]
    patterns: dict[str, Float[Tensor, " objects"]]  # checkerboards: of each transformer's planes, and of what it adds
    seconds: dict[str, float]


@torch.no_grad()
def evaluate(config: EvaluateConfig, model: Model, scenes: Scenes, device: torch.device) -> Evaluation:
    """The figures of `metrics.json`, and of each object."""
    judge = Judge(config, scenes, device)
    scores, seconds = {}, {}

    def measured(name: str, found: Callable[[], Scores]) -> None:
        began = time.monotonic()
        scores[name] = found()
        seconds[name] = time.monotonic() - began

    for name, method in model.methods.items():
        measured(
            name,
            lambda n=name, m=method: judge.decoded(lambda o: model.embed(n, o), m.forward_model, judge.everything),
        )
    measured("mean_image", lambda: judge.shown(lambda o: o.values.mean(1, keepdim=True)))
    measured("white", lambda: judge.shown(lambda o: torch.ones_like(o.values[:, :1])))
    at_sources: dict[str, Scores] = {}
    if config.fit.objects:
        began = time.monotonic()
        scores[FITTED], at_sources = judge.fitted(model)
        seconds[FITTED] = time.monotonic() - began
    differences = paired(model, scores)
    if at_sources:
        differences["gap_to_fitting_at_sources"] = {
            count: one - at_sources[model.best][count] for count, one in at_sources[FITTED].items()
        }
    patterns = judge.patterns(model)
    results = _results(config, model, scores, at_sources, differences, patterns)
    return Evaluation(results, judge.held_out, scores, at_sources, differences, patterns, seconds)


class Judge:
    """Held-out views of objects, and how far from them is what a method makes of its sources."""

    def __init__(self, config: EvaluateConfig, scenes: Scenes, device: torch.device):
        self.config, self.scenes, self.device = config, scenes, device
        self.held_out = fixed_list(scenes, config.objects, max(config.sources), config.targets)
        self.everything = torch.arange(len(self.held_out.objects))

    def sources(self, rows: Int[Tensor, " b"], count: int) -> Observations:
        """The first so many views of some rows of the list."""
        return self.scenes.views(self.held_out.objects[rows], self.held_out.sources[rows, :count], self.device)

    def targets(self, rows: Int[Tensor, " b"]) -> Observations:
        """Their held-out views."""
        return self.scenes.views(self.held_out.objects[rows], self.held_out.targets[rows], self.device)

    def decoded(self, encode: Callable[[Observations], Any], forward_model: Any, rows: Int[Tensor, " n"]) -> Scores:
        """Encode, decode, look from elsewhere, compare."""
        return self._scores(rows, lambda sources, targets: forward_model(encode(sources), targets.params))

    def shown(self, guess: Callable[[Observations], Tensor]) -> Scores:
        """A guess that knows no cameras: one image for all held-out views."""
        return self._scores(self.everything, lambda sources, targets: guess(sources).expand_as(targets.values))

    def fitted(self, model: Model) -> tuple[Scores, dict[str, Scores]]:
        """Each of the first objects fitted by itself, at held-out views; and at its sources, as the most steps are."""
        config, method = self.config.fit, model.methods[model.best]
        rows = self.everything[: config.objects]
        unseen: Scores = {}
        at_sources: dict[str, Scores] = {FITTED: {}, model.best: {}}
        with ProgressLine("fit", len(rows) * len(self.config.sources), unit="objects") as line:
            for count in self.config.sources:
                found: dict[str, list[Tensor]] = {"unseen": [], FITTED: [], model.best: []}
                for row in rows.split(1):
                    sources, targets = self.sources(row, count), self.targets(row)
                    encoded = model.embed(model.best, sources)
                    origin = method.forward_model.origin(1, self.device)
                    signal, own = fit(
                        config, method.forward_model, sources, {"origin": origin, "encoding": encoded}[config.start]
                    )
                    found["unseen"].append(_psnr(own(signal, targets.params), targets.values))
                    found[FITTED].append(_psnr(own(signal, sources.params), sources.values))
                    found[model.best].append(_psnr(method.forward_model(encoded, sources.params), sources.values))
                    line.advance_to(line.done + 1, "")
                unseen[count] = torch.cat(found["unseen"])
                for name, each in at_sources.items():
                    each[count] = torch.cat(found[name])
        return unseen, at_sources

    def patterns(self, model: Model) -> dict[str, Float[Tensor, " objects"]]:
        """The checkerboard of the planes of each transformer, and of what it adds to those that it is given."""
        count, found = shown_sources(self.config), {}
        for name, method in model.methods.items():
            if not isinstance(method, PlaneTransformer):
                continue
            given = [
                embed(method.encoder, self.sources(part, count), model.facts["most_sources"])
                for part in self.everything.split(max(1, self.config.views_at_once // count))
            ]
            planes = [method.refine(part) for part in given]
            added = [made - part for made, part in zip(planes, given, strict=True)]
            for called, parts in ((name, planes), (f"added_{name}", added)):
                found[called] = checkerboard_energy(torch.cat(parts).cpu(), method.config.patch_size).float()
        return found

    def _scores(self, rows: Int[Tensor, " n"], predict: Callable[[Observations, Observations], Tensor]) -> Scores:
        scores: Scores = {}
        with ProgressLine("evaluate", len(rows) * len(self.config.sources), unit="objects") as line:
            for count in self.config.sources:
                found = []
                for part in rows.split(max(1, self.config.views_at_once // count)):
                    targets = self.targets(part)
                    found.append(_psnr(predict(self.sources(part, count), targets), targets.values))
                    line.advance_to(line.done + len(part), "")
                scores[count] = torch.cat(found)
        return scores


def _psnr(estimate: Tensor, values: Tensor) -> Float[Tensor, " objects"]:
    """Of each object, the mean of its views."""
    each = psnr(estimate.flatten(0, 1), values.flatten(0, 1), data_range=1.0)
    return each.unflatten(0, values.shape[:2]).mean(1).cpu()


def shown_sources(config: EvaluateConfig) -> int:
    """How many views are encoded where one number has to do: four, or the most there are."""
    return min(4, max(config.sources))


def paired(model: Model, scores: dict[str, Scores]) -> dict[str, Scores]:
    """Differences in dB of two methods on the same objects, by what `metrics.json` calls them."""
    steps, best = sorted(model.facts["steps"]), model.best
    pairs = {}
    if "unprojection" in scores:
        pairs["over_unprojection"] = (best, "unprojection")
        if steps[0] == 1 and best != name_of(1):
            pairs["one_step_over_unprojection"] = (name_of(1), "unprojection")
    if steps[0] == 1 and best != name_of(1):
        pairs["over_one_step"] = (best, name_of(1))
        pairs |= {f"{name_of(count)}_over_one_step": (name_of(count), name_of(1)) for count in steps[1:-1]}
    for count in steps:
        for kind in ("detached", "plain", *UNPATCH):
            if name_of(count, kind) in scores:
                pairs[f"over_{kind}_steps{count}"] = (name_of(count), name_of(count, kind))
    pairs |= {f"over_{name}": (best, name) for name in model.facts.get("against", [])}
    if FITTED in scores:
        pairs["gap_to_fitting"] = (FITTED, best)
    found: dict[str, Scores] = {}
    for name, (one, other) in pairs.items():
        both = zip(scores[one].items(), scores[other].values(), strict=True)
        found[name] = {count: a[: len(b)] - b[: len(a)] for (count, a), b in both}
    return found


def _results(
    config: EvaluateConfig,
    model: Model,
    scores: dict[str, Scores],
    at_sources: dict[str, Scores],
    differences: dict[str, Scores],
    patterns: dict[str, Tensor],
) -> Results:
    def figure(
        values: Tensor, higher_is_better: bool, note: str, statistic: Callable[[Tensor], Tensor] = mean
    ) -> MetricValue:
        value = statistic(values.double()).item()
        if len(values) < 2:
            return MetricValue(value, higher_is_better, len(values), note)
        generator = torch.Generator().manual_seed(SEED)
        interval = bootstrap_interval(values, statistic, n=config.intervals, generator=generator)
        return MetricValue(value, higher_is_better, len(values), note, tuple(interval))

    views = f"{config.targets} held-out views of each held-out object"
    metrics = {
        f"psnr_k{count}": figure(values, True, f"dB, {max(model.facts['steps'])} steps, {count} sources, {views}")
        for count, values in scores[model.best].items()
    }
    for name in (method for method in model.methods if method != "unprojection"):
        metrics |= {f"psnr_k{count}_{name}": figure(values, True, "dB") for count, values in scores[name].items()}
    for name, each in differences.items():
        gap = name.startswith("gap_to_fitting")
        note = "dB, fitting less encoding, of the objects that were fitted" if gap else "dB, of the same objects"
        metrics |= {f"{name}_k{count}": figure(values, not gap, note) for count, values in each.items()}
    if patterns:
        note = f"median energy at the patches' frequency over that around it, {shown_sources(config)} sources; 1: none"
        metrics["checkerboard_energy"] = figure(patterns[model.best], False, note, median)
        metrics |= {f"checkerboard_energy_{name}": figure(each, False, note, median) for name, each in patterns.items()}
    called = {"one_step": name_of(1)} if name_of(1) in scores and model.best != name_of(1) else {}
    called |= {name: name for name in ("unprojection", "mean_image", "white", FITTED) if name in scores}
    plain = name_of(max(model.facts["steps"]), "plain")
    called |= {"without_network": plain} if plain in scores else {}
    called |= {
        f"{kind}_unpatching": name_of(max(model.facts["steps"]), kind)
        for kind in UNPATCH
        if name_of(max(model.facts["steps"]), kind) in scores
    }
    baselines = {
        name: {f"psnr_k{count}": values.mean().item() for count, values in scores[method].items()}
        for name, method in called.items()
    }
    if at_sources:
        note = f"dB at the views that were encoded, of {config.fit.objects} objects"
        own = at_sources[model.best]
        metrics |= {f"sources_psnr_k{count}": figure(values, True, note) for count, values in own.items()}
        baselines[FITTED] |= {f"sources_psnr_k{count}": v.mean().item() for count, v in at_sources[FITTED].items()}
    for name, method in called.items():
        if method in patterns:
            baselines[name]["checkerboard_energy"] = median(patterns[method].double()).item()
    return Results(model.facts["task"], model.facts["images_seen"], metrics, baselines)
