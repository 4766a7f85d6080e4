"""What the report of the check shows."""

from __future__ import annotations

import numpy as np
from goembed_core.report.builder import Report
from goembed_core.report.figures import line_plot
from goembed_core.report.style import COLOURS, legend, new_figure, quiet
from matplotlib.figure import Figure

from goembed_posterior_check.evaluation import LEVELS, Evaluation, Example


def compose(report: Report, evaluation: Evaluation) -> None:
    """The sections between the figures and the training curves."""
    report.section(
        "The unseen coordinate",
        "A point of the plane is seen along one direction. The histograms show where it may lie across that direction: "
        "exact posterior (grey), DFM's samples (blue), and the one answer of the deterministic baseline (line).",
    )
    report.figure(histograms(evaluation.examples), "Eight contexts")
    report.figure(
        scatter(*evaluation.scatter),
        "Prior samples (left); one sample of the posterior of each (right): the same distribution, if all is right",
    )
    report.section(
        "Calibration",
        "Expected coverage of credible regions by TARP; the diagonal is right, and exact samples show the noise.",
    )
    report.figure(line_plot(LEVELS.tolist(), evaluation.coverages, "level", "coverage"), "Expected coverage")
    if evaluation.study["unipc"]:
        report.section(
            "Samplers",
            f"W1 over the posterior's standard deviation by evaluations of the denoiser; exact samples leave "
            f"{evaluation.study_floor:.3f}.",
        )
        steps = list(evaluation.study["unipc"])
        rows = [[name, *(f"{by_steps[n]:.3f}" for n in steps)] for name, by_steps in evaluation.study.items()]
        report.table(["sampler", *(f"{n} steps" for n in steps)], rows)
        places = [float(np.log10(n)) for n in steps]
        lines = {name: list(by_steps.values()) for name, by_steps in evaluation.study.items()}
        report.figure(line_plot(places, lines, "log10 of evaluations", "W1 / std"), "Quality against cost")


def histograms(examples: list[Example]) -> Figure:
    """Exact and sampled distributions of the unseen coordinate."""
    rows = -(-len(examples) // 4)
    figure = new_figure(860, 130 * rows)
    for index, example in enumerate(examples):
        axes = quiet(figure.add_subplot(rows, 4, index + 1))
        low, high = (example.exact.quantile(q).item() for q in (0.001, 0.999))
        margin = 0.25 * (high - low) + 1e-3
        bins = np.linspace(low - margin, high + margin, 50)
        axes.hist(example.exact.numpy(), bins, density=True, color="#888888", alpha=0.5)
        axes.hist(example.samples.numpy(), bins, density=True, histtype="step", color=COLOURS[0], linewidth=1.4)
        axes.axvline(example.answer, color=COLOURS[1], linewidth=1.2)
        axes.set_yticks([])
    figure.subplots_adjust(0.02, 0.08, 0.98, 0.97, 0.1, 0.3)
    return figure


def scatter(prior, sampled) -> Figure:
    """Two clouds of points."""
    figure = new_figure(640, 320)
    for index, (name, points) in enumerate((("prior", prior), ("sampled", sampled))):
        axes = quiet(figure.add_subplot(1, 2, index + 1))
        axes.scatter(points[:, 0], points[:, 1], s=2, color=COLOURS[index], alpha=0.5, linewidths=0, label=name)
        axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
        legend(axes)
    figure.subplots_adjust(0.04, 0.06, 0.98, 0.92, 0.1)
    return figure
