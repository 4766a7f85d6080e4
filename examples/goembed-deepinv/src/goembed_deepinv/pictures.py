"""The pictures of tomography: what may lie behind the projections, where the samples differ, and where they err."""

from __future__ import annotations

import torch
from goembed_core.report.builder import Report
from goembed_core.report.figures import heatmap_grid, image_grid, line_plot
from matplotlib.figure import Figure
from torch import Tensor

from goembed_deepinv.evaluation import Answers, reliability

SHOWN = 6  # samples of each context


def samples_figure(answers: Answers, truth: Tensor, count: int) -> Figure:
    """True image, classical reconstructions, baseline, posterior mean, samples: one context a row."""
    points = {"fbp": "filtered\nback-proj.", "least_squares": "least\nsquares", "deterministic": "determi-\nnistic"}
    columns = [truth, *(answers.points[name] for name in points), answers.mean, *answers.samples.unbind(1)[:SHOWN]]
    labels = ["true", *points.values(), "mean", *(f"sample {i + 1}" for i in range(len(columns) - 5))]
    images = torch.stack([column[:count] for column in columns], 1)
    return image_grid(2 * images - 1, column_labels=labels)


def spread_figure(answers: Answers, truth: Tensor, count: int) -> Figure:
    """Standard deviation of the samples above the error of their mean."""
    error = (answers.mean - truth).abs()
    maps = torch.stack([answers.std[:count].mean(1), error[:count].mean(1)])
    return heatmap_grid(maps, ["spread", "|error|"], label="standard deviation of the samples; error of their mean")


def compose(report: Report, answers: Answers, truth: Tensor, count: int) -> None:
    """The sections of the report between its head and the training curves."""
    views = answers.context.values.shape[1]
    report.section(
        "Samples",
        f"Each row is one test image, known by {views} projections. Nothing in training has seen an image. The "
        "classical reconstructions are deepinv's own.",
    )
    report.figure(samples_figure(answers, truth, count), "What may lie behind the projections")
    report.section("Spread", "Where the samples differ, and where their mean is wrong.")
    report.figure(spread_figure(answers, truth, count), "The same images, from left to right")
    spread, error = reliability(answers.std, answers.mean - truth)
    figure = line_plot(spread, {"measured": error, "perfect": spread}, "spread of the samples", "error of their mean")
    report.figure(figure, "Pixels of all images by their spread, ten groups of equal number")
    report.section("Projections", "The known projections of each image, one a row of its picture.")
    sinograms = answers.context.values[:count, :, 0]
    report.figure(
        heatmap_grid(sinograms[None].repeat_interleave(4, 2), label="projection, scaled"), "In the order above"
    )
