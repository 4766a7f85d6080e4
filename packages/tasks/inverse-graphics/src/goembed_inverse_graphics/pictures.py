"""The sections of the report: samples beside the truth, how they differ, and rides around them."""

from __future__ import annotations

import torch
from goembed_core.report.builder import Report
from goembed_core.report.figures import heatmap_grid, image_grid
from goembed_core.trees import select_items, select_views
from goembed_nerf_renderer.config import SceneBox
from matplotlib.figure import Figure

from goembed_inverse_graphics.evaluation import Evaluation
from goembed_inverse_graphics.solve import Solver, all_scenes
from goembed_inverse_graphics.turntable import around, film, frames, gif

SHOWN = 6  # samples of each context
VIEWS = 3  # from which each sampled scene is shown
FRAMES, FPS = 24, 12


def samples_figure(solver: Solver, found: Evaluation, contexts: int) -> Figure:
    """Context, true target, samples, pixelNeRF's answer: a row for each context."""
    count = len(found.samples.images) // len(found.scenes.values)
    shown = min(SHOWN, count)
    images = found.samples.images[:, 0].unflatten(0, (-1, count))[:contexts, :shown].cpu()
    at = select_views(found.scenes.params, slice(found.target, found.target + 1))
    answer = solver.views(found.baseline, at)[:contexts].cpu()
    context, true = (found.scenes.values[:contexts, i : i + 1].cpu() for i in (0, found.target))
    columns = ["context", "true target", *(f"sample {k + 1}" for k in range(shown)), "pixelNeRF"]
    return image_grid(torch.cat([context, true, images, answer], 1), column_labels=columns)


def around_figure(solver: Solver, found: Evaluation, contexts: int) -> Figure:
    """Two sampled scenes of each context, and pixelNeRF's, from several sides, beside the true views."""
    others = list(range(found.num_context, found.scenes.values.shape[1]))
    picked = [others[round(k * (len(others) - 1) / max(1, VIEWS - 1))] for k in range(min(VIEWS, len(others)))]
    params = select_views(found.scenes.params, torch.tensor(picked))
    params = select_items(params, slice(0, contexts))
    scenes, rows = all_scenes(found.samples), []
    for number in range(min(2, found.kept)):
        index = torch.arange(contexts, device=solver.device) * found.kept + number
        rows.append(solver.views(select_items(scenes, index), params).cpu())
    rows.append(solver.views(select_items(found.baseline, slice(0, contexts)), params).cpu())
    true = found.scenes.values[:contexts, picked].cpu()
    names = ["true", *(f"sample {k + 1}" for k in range(len(rows) - 1)), "pixelNeRF"]
    labels = [f"{name}, view {view + 1}" for name in names for view in picked]
    return image_grid(torch.cat([true, *rows], 1), column_labels=labels)


def depth_figure(solver: Solver, found: Evaluation, contexts: int) -> Figure:
    """The distance at which each sampled scene stops the light, from the target."""
    at = select_views(found.scenes.params, slice(found.target, found.target + 1))
    index = torch.arange(contexts, device=solver.device) * found.kept
    seen = solver.look(select_items(all_scenes(found.samples), index), select_items(at, slice(0, contexts)))
    distance = seen.depth / seen.opacity.clamp(min=1e-3)
    shown = torch.where(seen.opacity > 0.5, distance, torch.nan)[:, 0].float().cpu()
    return heatmap_grid(shown[None], label="distance from the camera")


def spread_figure(found: Evaluation, contexts: int) -> Figure:
    """The standard deviation over the samples of each context, as seen from the target."""
    count = len(found.samples.images) // len(found.scenes.values)
    images = found.samples.images[:, 0].unflatten(0, (-1, count))[:contexts]
    return heatmap_grid(images.std(1).mean(1)[None].cpu(), label="standard deviation over samples, of 2")


def compose(report: Report, solver: Solver, found: Evaluation, contexts: int) -> None:
    """The sections between the figures and the training curves."""
    contexts = min(contexts, len(found.scenes.values))
    report.section(
        "Samples",
        "Each row is one context, and what is sampled of its far side: from where the target is, which is noised. "
        "pixelNeRF, which is the estimate within the denoiser, has one answer.",
    )
    report.figure(samples_figure(solver, found, contexts), "The far side of one image")
    report.figure(spread_figure(found, contexts), "Where the samples of a context differ")
    report.section("All around", "The same sampled scenes from other sides: one scene has one far side.")
    report.figure(around_figure(solver, found, min(4, contexts)), "Sampled scenes from several sides")
    report.figure(depth_figure(solver, found, contexts), "Depth of one sampled scene of each context")
    report.section("Turntables", "Once round: two sampled scenes of each context, then pixelNeRF; colour and nearness.")
    box = solver.model.forward_model.renderer.config.box or SceneBox()
    centre = torch.tensor([0.5 * (a + b) for a, b in zip(box.low, box.high, strict=True)], device=solver.device)
    scenes = all_scenes(found.samples)
    for number in range(min(2, contexts)):
        ride = around(select_items(found.scenes.params, slice(number, number + 1)), centre, FRAMES)
        rows = [select_items(scenes, slice(i, i + 1)) for i in range(number * found.kept, number * found.kept + 2)]
        rows.append(select_items(found.baseline, slice(number, number + 1)))
        videos = torch.cat(
            [frames(solver, scene, ride, solver.model.size, 64 / solver.model.size[1]) for scene in rows]
        )
        report.animation(gif(film(videos), FPS), f"Context {number + 1}")
