"""What is measured: agreement with the true image, with the context, and of the spread with the error."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from goembed_core.diffusion import Split
from goembed_core.metrics.bootstrap import bootstrap_interval
from goembed_core.metrics.images import psnr, ssim
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.precision import autocast
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import repeat_items, select_items
from jaxtyping import Float
from torch import Tensor

from goembed_deepinv import library
from goembed_deepinv.config import TomographyConfig
from goembed_deepinv.forward import Projections
from goembed_deepinv.model import Model

EVALUATION_SEED = 1


class Answers(NamedTuple):
    """Images in [0, 1] for each context, by every way to find them."""

    machine: Projections  # without the half-ramp filter
    context: Observations  # the known projections as the machine gives them
    samples: Float[Tensor, "contexts samples channels height width"]
    points: dict[str, Float[Tensor, "contexts channels height width"]]  # one image each: deterministic, fbp, ...
    seconds_per_sample: float

    @property
    def mean(self) -> Float[Tensor, "contexts channels height width"]:
        """The posterior mean."""
        return self.samples.mean(1)

    @property
    def std(self) -> Float[Tensor, "contexts channels height width"]:
        """The posterior standard deviation."""
        return self.samples.std(1)


@torch.no_grad()
def answer(config: TomographyConfig, model: Model, split: Split, truth: Tensor) -> Answers:
    """Samples of each context, the baseline's one image, and the classical reconstructions.

    `truth`, in [0, 1], is scanned anew for the classical ones, as the networks' projections are filtered.
    """
    settings, context = config.evaluate, split.context
    machine = Projections(model.forward_model.config.model_copy(update={"half_ramp": False}))
    measured = Observations(machine(truth, context.params), context.params)
    repeated, target = repeat_items(context, settings.samples), repeat_items(split.target.params, settings.samples)
    shape, device = tuple(split.target.values.shape[1:]), context.values.device
    began, parts = time.monotonic(), []
    for start in range(0, len(repeated.values), settings.batch_size):
        rows = slice(start, min(start + settings.batch_size, len(repeated.values)))
        random = ItemRandom(EVALUATION_SEED, range(rows.start, rows.stop), "sample", device)
        with autocast(config.train.mixed_precision, device):
            found = model.dfm.sample(
                select_items(repeated, rows), select_items(target, rows), shape, config.sampler, random
            )
        parts.append(found.signal.float().clamp(0, 1))
    seconds = (time.monotonic() - began) / len(repeated.values)
    points = {"deterministic": model.regressor(context).clamp(0, 1)} | classical(machine, measured)
    return Answers(machine, measured, torch.cat(parts).unflatten(0, (-1, settings.samples)), points, seconds)


def classical(forward_model: Projections, context: Observations) -> dict[str, Tensor]:
    """deepinv's own filtered back-projection and least-squares inverse, item by item, as it has one set of angles."""
    operator, width = library.operators()["Tomography"], forward_model.config.signal_shape[-1]
    found: dict[str, list[Tensor]] = {"fbp": [], "least_squares": []}
    circle = forward_model.config.parameters.get("circle", False)
    for values, angles in zip(context.values, context.params.angle_deg, strict=True):
        physics = operator(angles=angles, img_width=width, normalize=False, circle=circle, device=values.device)
        sinogram = values.permute(1, 2, 0)[None] / forward_model.config.scale
        found["fbp"].append(physics.fbp(sinogram))
        found["least_squares"].append(physics.A_dagger(sinogram))
    return {name: torch.cat(images).clamp(0, 1) for name, images in found.items()}


def context_error(forward_model: Projections, images: Tensor, context: Observations) -> Float[Tensor, " batch"]:
    """`||A S − O_ctxt|| / ||O_ctxt||` of each image."""
    with torch.no_grad():
        error = (forward_model(images, context.params) - context.values).flatten(1).norm(dim=1)
    return error / context.values.flatten(1).norm(dim=1)


def judge(config: TomographyConfig, model: Model, answers: Answers, truth: Tensor) -> Results:
    """Every figure of `metrics.json`, with the baselines' on the same images."""
    context, samples = answers.context, answers.samples
    contexts, count = samples.shape[:2]
    metrics: dict[str, MetricValue] = {}

    def add(name: str, values: Tensor, higher_is_better: bool | None, note: str) -> None:
        interval = bootstrap_interval(values.cpu(), generator=torch.Generator().manual_seed(EVALUATION_SEED))
        metrics[name] = MetricValue(values.mean().item(), higher_is_better, len(values), note, interval)

    def per_sample(values: Tensor) -> Tensor:
        return values.unflatten(0, (contexts, count)).mean(1)

    of = f"{model.views.context} projections of {contexts} test images"
    flat, repeated = samples.flatten(0, 1), truth.repeat_interleave(count, 0)
    add("psnr_mean", psnr(answers.mean, truth, data_range=1.0), True, f"dB, mean of {count} samples; {of}")
    add("ssim_mean", ssim(answers.mean, truth, data_range=1.0), True, f"mean of {count} samples; {of}")
    add("psnr_sample", per_sample(psnr(flat, repeated, data_range=1.0)), True, f"dB, single samples; {of}")
    add("ssim_sample", per_sample(ssim(flat, repeated, data_range=1.0)), True, f"single samples; {of}")
    twice = repeat_items(context, count)
    note = "relative error of the projections of the context"
    add("context_error_sample", per_sample(context_error(answers.machine, flat, twice)), False, f"{note}; samples")
    add("context_error_mean", context_error(answers.machine, answers.mean, context), False, f"{note}; mean")
    error = (answers.mean - truth).abs()
    add("spread_error_correlation", correlation(answers.std, error), True, "of standard deviation and |error of mean|, "
        "over the pixels of an image")  # fmt: skip
    # A perfect sampler's mean of K samples is off by (1 + 1/K) of the variance.
    ratio = (answers.std.square().flatten(1).mean(1) * (1 + 1 / count) / error.square().flatten(1).mean(1)).sqrt()
    add("spread_over_error", ratio, None, "root of mean variance (1 + 1/K) over mean squared error; 1 is right")
    metrics["seconds_per_sample"] = MetricValue(
        answers.seconds_per_sample, False, contexts * count, f"{config.sampler.name}, {config.sampler.num_steps} steps"
    )
    baselines = {name: _point(answers, images, truth) for name, images in answers.points.items()}
    return Results(config.task, model.images_seen, metrics, baselines)


def _point(answers: Answers, images: Tensor, truth: Tensor) -> dict[str, float]:
    """The figures of one image a context, under the names of the posterior mean's."""
    return {
        "psnr_mean": psnr(images, truth, data_range=1.0).mean().item(),
        "ssim_mean": ssim(images, truth, data_range=1.0).mean().item(),
        "context_error_mean": context_error(answers.machine, images, answers.context).mean().item(),
    }


def correlation(a: Float[Tensor, "batch ..."], b: Float[Tensor, "batch ..."]) -> Float[Tensor, " batch"]:
    """Pearson's correlation over the pixels of each image."""
    a, b = (x.double().flatten(1) - x.double().flatten(1).mean(1, keepdim=True) for x in (a, b))
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)).float()


def reliability(std: Tensor, error: Tensor, bins: int = 10) -> tuple[list[float], list[float]]:
    """Pixels of all images sorted by spread into bins of equal number: root mean spread and root mean squared error."""
    order = std.flatten().argsort()
    parts = [(std.flatten()[rows], error.flatten()[rows]) for rows in order.chunk(bins)]
    return tuple([part[k].square().mean().sqrt().item() for part in parts] for k in (0, 1))
