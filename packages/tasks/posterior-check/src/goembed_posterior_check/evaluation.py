"""How far DFM's samples are from the exact posterior, beside the floor that exact samples leave."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig, SamplerName
from goembed_core.diffusion import DFM
from goembed_core.metrics.bootstrap import bootstrap_interval
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import repeat_items
from jaxtyping import Float
from torch import Tensor, nn

from goembed_posterior_check.config import PosteriorCheckConfig
from goembed_posterior_check.linear import Projection
from goembed_posterior_check.measures import coverage, coverage_error, ranks, sliced_wasserstein, tarp, wasserstein_1d
from goembed_posterior_check.mixture import LinearPosterior
from goembed_posterior_check.problems import VIEWS, Problem, directions, fixed_views

SEED = 1  # of all evaluations; training draws under other stream names
BATCH = 8192
STUDIED: tuple[SamplerName, ...] = ("ddim", "dpm-solver++", "unipc", "ddpm")
LEVELS = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)


class Plane(NamedTuple):
    """Contexts of the 2-D problem: what is seen, and what is not."""

    context: Observations
    truth: Float[Tensor, "contexts 2"]
    posterior: LinearPosterior
    unseen: Float[Tensor, "contexts 2"]  # the unit vector across the seen direction
    std: Float[Tensor, " contexts"]  # of the posterior, along it


class Example(NamedTuple):
    """What the report shows of one context."""

    exact: Tensor
    samples: Tensor
    answer: float  # of the baseline


class Evaluation(NamedTuple):
    """Everything that the report shows."""

    results: Results
    study: dict[str, dict[int, float]]  # sampler, steps: W1 over the standard deviation
    study_floor: float
    coverages: dict[str, list[float]]  # expected coverage at LEVELS
    examples: list[Example]
    scatter: tuple[Tensor, Tensor]  # prior samples; S sampled, each from the context of one of them
    seconds: dict[str, float]


class Judge:
    """The trained networks, and how they are asked."""

    def __init__(self, config: PosteriorCheckConfig, problems: dict[str, Problem], solvers: dict[str, Any]):
        self.config, self.problems = config, problems
        self.dfm: dict[str, DFM] = solvers["dfm"]
        self.deterministic: dict[str, nn.Module] = solvers["deterministic"]
        self.metrics: dict[str, MetricValue] = {}
        self.baselines: dict[str, dict[str, float]] = {"floor": {}, "deterministic": {}, "single_target": {}}

    def plane(self, contexts: int, stream: str) -> Plane:
        """Contexts of the 2-D problem at random directions."""
        problem, random = self.problems["mixture"], ItemRandom(SEED, range(contexts), stream)
        truth, angle = problem.prior.sample(random), random.rand(1) * math.pi
        params = directions(angle)
        values = problem.forward_model(truth, params)
        posterior = problem.prior.posterior(params.matrix[:, 0], values[:, 0])
        unseen = directions(angle + math.pi / 2).matrix[:, 0, 0]
        return Plane(Observations(values, params), truth, posterior, unseen, posterior.moments(unseen)[1])

    def sample_plane(self, plane: Plane, count: int, sampler: SamplerConfig, stream: str) -> Tensor:
        """`count` samples of `S` of each context, `(contexts, count, 2)`, by sampling the unseen direction."""
        target = Projection(repeat_items(plane.unseen[:, None, None], count))
        return self._sample("mixture", repeat_items(plane.context, count), target, sampler, stream).unflatten(
            0, (-1, count)
        )

    def _sample(self, name: str, context: Observations, target: Projection, sampler: SamplerConfig, stream: str):
        dfm, (_, views, observed, _) = self.dfm[name], target.matrix.shape
        found = []
        for start in range(0, len(target.matrix), BATCH):
            rows = range(start, min(start + BATCH, len(target.matrix)))
            part = slice(rows.start, rows.stop)
            known = Observations(context.values[part], Projection(context.params.matrix[part]))
            random = ItemRandom(SEED, rows, f"evaluation {stream}")
            run = dfm.sample_autoregressive if views > 1 else dfm.sample
            found.append(run(known, Projection(target.matrix[part]), (views, observed), sampler, random).signal)
        return torch.cat(found).double()

    def measure_plane(self) -> list[Example]:
        """`w1_over_std` of the unseen coordinate, and its floor and baseline."""
        settings = self.config.evaluate
        plane, count = self.plane(settings.contexts, "contexts"), settings.samples
        exact, again = (plane.posterior.sample(count, torch.Generator().manual_seed(seed)) for seed in (0, 1))
        samples = self.sample_plane(plane, count, self.config.sampler, "plane")
        answer = self.deterministic["mixture"](plane.context).double()
        u, v, w, b = (
            torch.einsum("bnd,bd->bn", x, plane.unseen.double())
            for x in (samples, exact, again, answer[:, None].expand(-1, count, -1))
        )
        ratios = wasserstein_1d(u, v) / plane.std
        floor = wasserstein_1d(w, v) / plane.std
        sampler = f"{self.config.sampler.name}-{self.config.sampler.num_steps}"
        note = f"{settings.contexts} contexts of {count} samples, {sampler}"
        self.metrics["w1_over_std"] = MetricValue(
            ratios.mean().item(),
            False,
            settings.contexts,
            note,
            bootstrap_interval(ratios, generator=torch.Generator().manual_seed(0)),
        )
        self.metrics["w1_over_std_max"] = MetricValue(ratios.max().item(), False, settings.contexts, note)
        seen = torch.einsum("bnd,bd->bn", samples, plane.context.params.matrix[:, 0, 0].double())
        off = (seen - plane.context.values[:, 0].double()).abs().mean() / plane.std.mean()
        self.metrics["context_error_over_std"] = MetricValue(
            off.item(),
            False,
            settings.contexts,
            "how far samples are from what was seen",
        )
        for name, values in (("floor", floor), ("deterministic", wasserstein_1d(b, v) / plane.std)):
            self.baselines[name] |= {"w1_over_std": values.mean().item(), "w1_over_std_max": values.max().item()}
        return [Example(v[i], u[i], b[i, 0].item()) for i in range(min(8, settings.contexts))]

    def measure_coverage(self) -> dict[str, list[float]]:
        """`coverage_error` by TARP, and `rank_error` of the unseen coordinate."""
        settings = self.config.evaluate
        contexts, count = settings.coverage_contexts, settings.coverage_samples
        plane = self.plane(contexts, "coverage contexts")
        samples = self.sample_plane(plane, count, self.config.sampler, "coverage")
        exact = plane.posterior.sample(count, torch.Generator().manual_seed(2))
        answer = self.deterministic["mixture"](plane.context).double()[:, None].expand(-1, count, -1)
        truth, unseen = plane.truth.double(), plane.unseen.double()
        reference = self.problems["mixture"].prior.sample(ItemRandom(SEED, range(contexts), "references")).double()
        curves = {}
        for name, found in (("dfm", samples), ("floor", exact), ("deterministic", answer)):
            shares = tarp(truth, found, reference)
            curves[name] = coverage(shares, LEVELS).tolist()
            rank = ranks((truth * unseen).sum(1), torch.einsum("bnd,bd->bn", found, unseen))
            errors = {"coverage_error": coverage_error(shares, LEVELS), "rank_error": coverage_error(rank, LEVELS)}
            if name == "dfm":
                notes = {
                    "coverage_error": f"expected coverage (TARP): largest distance from its level, {count} samples",
                    "rank_error": f"the same of the rank of the truth along the unseen coordinate, {count} samples",
                }
                self.metrics |= {k: MetricValue(v, False, contexts, notes[k]) for k, v in errors.items()}
            else:
                self.baselines[name] |= errors
        return curves

    def measure_gaussian(self) -> None:
        """`sliced_w_over_std`: autoregressive samples of all that the context does not show of a 16-D signal."""
        settings, problem = self.config.evaluate, self.problems["gaussian"]
        contexts, count = settings.contexts, settings.study_samples
        random = ItemRandom(SEED, range(contexts), "gaussian contexts")
        truth, views = problem.prior.sample(random), fixed_views(problem)
        matrix = views[:1].expand(contexts, -1, -1, -1)
        context = Observations(problem.forward_model(truth, Projection(matrix)), Projection(matrix))
        posterior = problem.prior.posterior(matrix[:, 0], context.values[:, 0])
        exact, again = (posterior.sample(count, torch.Generator().manual_seed(seed)) for seed in (0, 1))
        repeated = repeat_items(context, count)

        def sampled(last: int) -> Tensor:
            target = Projection(views[1:last].expand(contexts * count, -1, -1, -1))
            found = self._sample("gaussian", repeated, target, self.config.sampler, f"gaussian {last}")
            return found.unflatten(0, (contexts, count))

        # Slices of what is not seen: random unit vectors in the span of the other views.
        generator = torch.Generator().manual_seed(3)
        slices = torch.randn(64, (VIEWS - 1) * views.shape[1], generator=generator, dtype=torch.float64)
        slices = (slices / slices.norm(dim=1, keepdim=True)) @ views[1:].flatten(0, 1).double()
        spread = exact - exact.mean(1, keepdim=True)
        std = torch.einsum("bnd,sd->bns", spread, slices).std(1).mean(1)
        answer = self.deterministic["gaussian"](context).double()[:, None].expand(-1, count, -1)
        distances = {
            name: sliced_wasserstein(found, exact, slices) / std
            for name, found in (
                ("dfm", sampled(VIEWS)), ("single_target", sampled(2)), ("deterministic", answer), ("floor", again),
            )
        }  # fmt: skip
        note = (
            f"{problem.prior.dim}-D Gaussian, {contexts} contexts of {count} samples, 64 slices, three targets in turn"
        )
        own = distances.pop("dfm")
        self.metrics["sliced_w_over_std"] = MetricValue(
            own.mean().item(),
            False,
            contexts,
            note,
            bootstrap_interval(own, generator=torch.Generator().manual_seed(0)),
        )
        for name, values in distances.items():
            self.baselines[name]["sliced_w_over_std"] = values.mean().item()

    def study_samplers(self) -> tuple[dict[str, dict[int, float]], float]:
        """`w1_over_std` by sampler and number of evaluations, and its floor, on the same contexts and noise."""
        settings = self.config.evaluate
        plane, count = self.plane(settings.study_contexts, "contexts"), settings.study_samples
        exact, again = (plane.posterior.sample(count, torch.Generator().manual_seed(seed)) for seed in (0, 1))

        def distance(found: Tensor) -> float:
            u, v = (torch.einsum("bnd,bd->bn", x, plane.unseen.double()) for x in (found, exact))
            return (wasserstein_1d(u, v) / plane.std).mean().item()

        study = {
            name: {
                steps: distance(
                    self.sample_plane(
                        plane, count, self.config.sampler.model_copy(update={"name": name, "num_steps": steps}), "study"
                    )
                )
                for steps in settings.steps
            }
            for name in STUDIED
        }
        return study, distance(again)

    def scatter(self) -> tuple[Tensor, Tensor]:
        """Prior samples beside one sample of S from what each of them shows: the same distribution, if all is right."""
        plane = self.plane(2000, "scatter contexts")
        return plane.truth, self.sample_plane(plane, 1, self.config.sampler, "scatter")[:, 0]


def evaluate(judge: Judge, images_seen: int) -> Evaluation:
    """All measurements."""
    seconds: dict[str, float] = {}

    def timed(name: str, part):
        began = time.monotonic()
        result = part()
        seconds[name] = time.monotonic() - began
        return result

    with torch.no_grad():
        examples = timed("unseen coordinate", judge.measure_plane)
        coverages = timed("calibration", judge.measure_coverage)
        timed("16-D Gaussian", judge.measure_gaussian)
        study, floor = timed("samplers", judge.study_samplers)
        scatter = judge.scatter()
    results = Results(judge.config.task, images_seen, judge.metrics, judge.baselines)
    return Evaluation(results, study, floor, coverages, examples, scatter, seconds)
