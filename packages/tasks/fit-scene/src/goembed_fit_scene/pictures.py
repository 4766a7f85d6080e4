"""What the report of a fitted scene shows."""

from __future__ import annotations

import torch
from goembed_core.report.builder import Report
from goembed_core.report.figures import heatmap_grid, image_grid

from goembed_fit_scene.config import FitSceneConfig
from goembed_fit_scene.evaluation import Evaluation, held_out
from goembed_fit_scene.model import Model
from goembed_fit_scene.scene import Scene

SHOWN = 8  # frames of the turntable


def compose(report: Report, config: FitSceneConfig, model: Model, scene: Scene, evaluation: Evaluation) -> None:
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
    occupied = model.field.box.occupied.float().mean().item()
    parameters = sum(p.numel() for p in model.field.parameters())
    report.section("The field")
    report.table(
        ["field", "parameters", "cells", "occupied", "PSNR", "SSIM", "LPIPS", "seconds"],
        [
            [
                config.field.name,
                parameters,
                " x ".join(map(str, model.field.box.cells)),
                f"{occupied:.1%}",
                *(
                    evaluation.results.metrics[name].value if name in evaluation.results.metrics else "–"
                    for name in ("psnr", "ssim", "lpips", "seconds")
                ),
            ]
        ],
    )
