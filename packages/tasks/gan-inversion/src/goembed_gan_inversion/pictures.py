"""The pictures of GAN inversion: what was seen, what may lie behind it, and how it spreads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from goembed_core.config.solvers import SamplerConfig
from goembed_core.protocols import Observations
from goembed_core.report.builder import Report
from goembed_core.report.figures import heatmap_grid, image_grid, line_plot, walk_strip
from goembed_core.trees import select_items
from goembed_stylegan_synth.boxes import full_box
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from goembed_gan_inversion.evaluation import Evaluation
from goembed_gan_inversion.solve import Solver

SHOWN = 8  # samples of each context
WALK_STEPS = 12


class Gallery(NamedTuple):
    """Contexts with their samples, refined samples and the baseline's answer."""

    context: Observations
    true: Float[Tensor, "contexts channels height width"]
    samples: Float[Tensor, "contexts samples channels height width"]
    refined: Float[Tensor, "contexts samples channels height width"]
    baseline: Float[Tensor, "contexts channels height width"]
    latents: Tensor  # (contexts, samples, ...)


def gallery(solver: Solver, contexts: int, sampler: SamplerConfig, refinement) -> Gallery:
    """Solve a few fresh contexts several times each."""
    scenes = solver.scenes(contexts, "gallery")
    sampled = solver.samples(scenes.context, 2 * SHOWN, sampler, "gallery")
    repeated = select_items(scenes.context, torch.arange(contexts).repeat_interleave(2 * SHOWN))
    refined = solver.refine(sampled, repeated, refinement)
    rows = (contexts, 2 * SHOWN)
    return Gallery(
        scenes.context,
        scenes.target.values[:, 0],
        sampled.images.unflatten(0, rows),
        refined.images.unflatten(0, rows),
        solver.regress(scenes.context).images,
        sampled.latent.unflatten(0, rows),
    )


def samples_figure(shown: Gallery, images: Tensor) -> Figure:
    """Patch, true image, samples, their mean, the baseline: one context a row."""
    columns = [
        patch_picture(shown.context)[:, None],
        shown.true[:, None],
        images[:, :SHOWN],
        images.mean(1, keepdim=True),
        shown.baseline[:, None],
    ]
    labels = ["patch", "true", *[f"sample {i + 1}" for i in range(SHOWN)], "mean", "baseline"]
    return image_grid(torch.cat(columns, 1), column_labels=labels)


def spread_figure(images: Float[Tensor, "contexts samples channels height width"], columns: int = 8) -> Figure:
    """Pixel standard deviation of each context's samples."""
    std = images.std(1).mean(1)
    missing = -len(std) % columns
    padded = torch.cat([std, std.new_full((missing, *std.shape[1:]), torch.nan)])
    return heatmap_grid(padded.unflatten(0, (-1, columns)), label="standard deviation over the samples")


def walk(solver: Solver, shown: Gallery, walks: int = 4) -> Float[Tensor, "walks steps channels height width"]:
    """Straight lines in latent space from one sample of a context to another."""
    walks = min(walks, len(shown.latents))
    start, end = shown.latents[:walks, 0], shown.latents[:walks, 1]
    weights = torch.linspace(0, 1, WALK_STEPS, device=start.device)
    latents = torch.stack([torch.lerp(start, end, weight) for weight in weights], 1)
    with torch.no_grad():
        whole = full_box(walks * WALK_STEPS, 1, start.device)
        images = solver.model.forward_model(latents.flatten(0, 1), whole)
    return images[:, 0].unflatten(0, latents.shape[:2])


def patch_picture(context: Observations) -> Float[Tensor, "contexts channels height width"]:
    """The visible patch on mid-grey."""
    return context.values[:, 0, :-1]


def preview(solver: Solver, sampler: SamplerConfig, path: Path) -> None:
    """A small grid of samples, during training."""
    scenes = solver.scenes(4, "preview")
    images = solver.samples(scenes.context, SHOWN, sampler, "preview").images.unflatten(0, (4, SHOWN))
    columns = [patch_picture(scenes.context)[:, None], scenes.target.values, images]
    image_grid(torch.cat(columns, 1)).savefig(path)


def compose(report: Report, solver: Solver, evaluation: Evaluation, shown: Gallery) -> None:
    """The sections of the report between its head and the training curves."""
    report.section(
        "Samples",
        "Each row is one context: the visible patch, the image it was cut from, samples of the posterior, their "
        f"mean over {shown.samples.shape[1]} samples, and the one answer of the deterministic baseline.",
    )
    report.figure(samples_figure(shown, shown.samples), "Samples as the diffusion model gives them")
    report.figure(samples_figure(shown, shown.refined), "The same samples refined on the visible patch")
    report.figure(spread_figure(shown.samples), "Where the samples of each context differ, in the order of the rows")
    report.section("Latent walk", "From one sample of a context to another, in equal steps of the latent.")
    report.figure(walk_strip(walk(solver, shown)), "Four contexts, first to second sample")

    check = evaluation.check
    report.section(
        "Posterior check",
        "The generator images nearest to a patch among very many stand for the true posterior (rejection). They are "
        f"loose themselves: their patches agree with the context at {check.rejection_psnr.mean():.1f} dB.",
    )
    names = [name for name in ("dfm", "refined", "rejection", "unconditional") if name in check.methods]
    few = min(4, *(len(check.methods[name]) for name in names))
    means = torch.stack([torch.stack([p.mean for p in check.methods[name][:few]]) for name in names])
    stds = torch.stack([torch.stack([p.std.mean(0) for p in check.methods[name][:few]]) for name in names])
    report.figure(image_grid(means, names), "Mean image of the posterior, by method, for the same contexts")
    report.figure(heatmap_grid(stds, names, label="pixel standard deviation"), "Spread of the posterior, by method")

    if evaluation.study:
        report.section("Samplers", "Fréchet distance against evaluations of the denoiser; lower is better.")
        steps = sorted({count for values in evaluation.study.values() for count in values})
        lines = {name: [values[count] for count in steps] for name, values in evaluation.study.items()}
        report.figure(line_plot(steps, lines, "steps", "Fréchet distance"), "Quality against the number of steps")
        report.table(["sampler", *[f"{s} steps" for s in steps]], [[n, *v] for n, v in lines.items()])
