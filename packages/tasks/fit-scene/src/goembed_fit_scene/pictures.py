"""What the report of a fitted scene shows."""

from __future__ import annotations

import torch
from goembed_core.report.builder import Report
from goembed_core.report.figures import heatmap_grid, image_grid

from goembed_fit_scene.config import EvaluateConfig, FitSceneConfig
from goembed_fit_scene.evaluation import Evaluation, held_out
from goembed_fit_scene.scene import Scene

SHOWN = 8  # frames of the turntable


def compose(report: Report, config: FitSceneConfig, scene: Scene, evaluation: Evaluation) -> None:
    """The sections between the figures and the training curves."""
    truth = held_out(scene.test, config.evaluate.views).images
    rows = torch.linspace(0, len(truth) - 1, min(config.evaluate.pictures, len(truth))).round().long()
    labels = [f"{evaluation.psnr[row]:.1f} dB" for row in rows]
    shown, seen = evaluation.held_out.colour[rows], truth[rows]
    error = (shown - seen).abs()
    tiles = torch.stack([2 * seen - 1, 2 * shown - 1, 2 * (4 * error).clamp(max=1) - 1], 1)
    report.section(
        "Held-out views", "Views that the field has not seen: the photograph, the field, four times the error."
    )
    report.figure(image_grid(tiles, labels, ("held out", "rendered", "error, 4 x")), "Held-out views")
    depth = evaluation.held_out.depth[rows]
    report.figure(heatmap_grid(depth[None], label="distance from the camera"), "Depth, where most light is stopped")
    report.section("Turntable", "Frames of turntable.mp4 and turntable.gif, which are among the run's samples.")
    picked = torch.linspace(0, len(evaluation.frames) - 1, min(SHOWN, len(evaluation.frames))).round().long()
    frames = evaluation.frames[picked].movedim(-1, 1) / 127.5 - 1
    colour, near = frames.chunk(2, 3)
    report.figure(image_grid(torch.stack([colour, near]), ("colour", "nearness")), "Once round")
    report.section("The field")
    _table(report, {config.field.name: evaluation})


def compare(report: Report, fits: dict[str, Evaluation], config: EvaluateConfig, scene: Scene) -> None:
    """Several fields of one scene side by side: their figures, the same held-out views, and depth."""
    truth = held_out(scene.test, config.views).images
    rows = torch.linspace(0, len(truth) - 1, min(config.pictures, len(truth))).round().long()
    report.section("Side by side", "Several fields, fitted to the same views and judged by the same others.")
    _table(report, fits)
    tiles = torch.stack(
        [2 * images[rows] - 1 for images in (truth, *(fit.held_out.colour for fit in fits.values()))], 1
    )
    columns = [f"{name}, {fit.results.metrics['psnr'].value:.1f} dB" for name, fit in fits.items()]
    report.figure(image_grid(tiles, (), ("held out", *columns)), "Held-out views by each field")
    depth = torch.stack([fit.held_out.depth[rows] for fit in fits.values()], 1)
    report.figure(heatmap_grid(depth, (), tuple(fits), "distance from the camera"), "Depth by each field")


def _table(report: Report, fits: dict[str, Evaluation]) -> None:
    """A row for each fit, and a dash for what was not measured."""
    names = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "seconds": "seconds"}
    rows = []
    for name, (field, results, *_) in fits.items():
        figures = [results.metrics[key].value if key in results.metrics else "–" for key in names]
        cells = " x ".join(map(str, field.cells))
        rows.append([name, field.name, field.parameters, cells, f"{field.occupied:.1%}", results.images_seen, *figures])
    report.table(["fit", "field", "parameters", "cells", "occupied", "rays", *names.values()], rows)
