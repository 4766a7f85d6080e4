"""What the report shows: samples beside the truth, where they differ, their grids, and rides around them."""

from __future__ import annotations

import io

import torch
from goembed_core.report.builder import Report
from goembed_core.report.figures import heatmap_grid, image_grid, line_plot, to_uint8
from goembed_core.trees import select_items, select_views
from goembed_nerf_renderer.cameras import Camera, PosedPixels, resize_camera, whole_image
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from goembed_fusion.generation.config import FusionEvaluateConfig
from goembed_fusion.generation.evaluation import Evaluation
from goembed_fusion.generation.grids import GridDenoiser
from goembed_fusion.generation.solve import Solver
from goembed_fusion.generation.voxels import VoxelDenoiser
from goembed_fusion.pictures import planes_of
from goembed_fusion.sampling import FRAMES_PER_SECOND, around

RIDES, FRAMES, FRAME_PX = 2, 18, 64


def compose(report: Report, config: FusionEvaluateConfig, solver: Solver, found: Evaluation) -> None:
    """The sections between the figures and the training curves."""
    shown, fewest = min(config.pictures, len(found.judged.names)), min(config.context)
    names, counts = found.judged.names[:shown], sorted(config.context)
    report.section(
        "Samples",
        f"What is given ({fewest}), the truth from elsewhere, and samples from there: from a view whose noise was "
        f"removed, and from one that neither network has seen. The regression has one answer.",
    )
    report.figure(_samples(config, solver, found, shown), "Given, truth, samples and regression")
    report.section(
        "Where samples differ",
        "The standard deviation over samples, seen from the view nearest to the first that is given, and from the one "
        "farthest from it.",
    )
    maps = found.spread[:shown].cpu()
    sides = ("nearest view", "farthest view")
    report.figure(heatmap_grid(maps, names, sides, "standard deviation, of 2"), "Disagreement of samples")
    report.section("Samples of nothing given", "Any object: two views whose noise was removed, and a third.")
    report.figure(_unconditional(solver, found, 2 * shown), "Unconditional samples")
    report.section("Reconstruction", "PSNR in dB of views that are neither given nor noised, over the views given.")
    rows = [[name, *(each[k].mean().item() if k in each else "" for k in counts)] for name, each in found.psnr.items()]
    report.table(["", *(f"{k} given" for k in counts)], rows)
    lines = {
        name: [each[k].mean().item() for k in counts] for name, each in found.psnr.items() if set(counts) <= set(each)
    }
    report.figure(line_plot(counts, lines, "views given", "PSNR, dB"), "More views")
    report.section(
        "Planes",
        "The length of the features in each cell, of one sample of each object; of voxels, the mean along an axis.",
    )
    sampled = found.samples.signals[:: config.samples][:4]
    lengths = _lengths(solver.model.denoiser, sampled).cpu()
    labels = ("xy", "xz", "yz") if lengths.shape[1] == 3 else ()
    report.figure(heatmap_grid(lengths, found.judged.names[: len(lengths)], labels, "length of the feature"), "Sampled")
    report.section("Turntables", "Once round: two samples of an object, then the regression where there is one.")
    for row in range(min(RIDES, shown)):
        report.animation(_ride(config, solver, found, row), found.judged.names[row])


def _samples(config: FusionEvaluateConfig, solver: Solver, found: Evaluation, shown: int) -> Figure:
    judged, many, device = found.judged, config.samples, solver.device
    columns = [judged.context.values[:shown, : min(config.context)], judged.target.values[:shown, :1]]
    labels = [*(f"given {n + 1}" for n in range(min(config.context))), "truth"]
    columns.append(found.samples.images.unflatten(0, (-1, many))[:shown, :, 0])
    labels += [f"sample {n + 1}" for n in range(many)]
    columns.append(judged.views.values[:shown, :1])
    labels.append("truth,\nelsewhere")
    params = _first_view(judged.views.params, shown)
    for number in range(min(2, many)):
        rows = torch.arange(shown, device=device) * many + number
        columns.append(solver.views(solver.model.denoiser, found.samples.signals[rows], params))
        labels.append(f"sample {number + 1}")
    if found.regression is not None:
        columns.append(solver.views(solver.model.regression, found.regression[:shown], params))
        labels.append("regression")
    return image_grid(torch.cat([column.cpu() for column in columns], 1), judged.names[:shown], labels)


def _unconditional(solver: Solver, found: Evaluation, shown: int) -> Figure:
    free, judged = found.unconditional, found.judged
    shown = min(shown, len(free.signals))
    other = solver.views(solver.model.denoiser, free.signals[:shown], _first_view(judged.views.params, shown))
    images = torch.cat([free.images[:shown].cpu(), other.cpu()], 1)
    return image_grid(images.transpose(0, 1))


def _lengths(network: GridDenoiser, signals: Tensor) -> Float[Tensor, "n planes r r"]:
    if isinstance(network, VoxelDenoiser):
        return planes_of(network.forward_model.decode.representation, signals)
    return signals.norm(dim=2)


def _first_view(params: PosedPixels, shown: int) -> PosedPixels:
    return select_items(select_views(params, slice(0, 1)), slice(0, shown))


def _ride(config: FusionEvaluateConfig, solver: Solver, found: Evaluation, row: int) -> bytes:
    first = select_items(found.judged.context, slice(row, row + 1))
    sampled = found.samples.signals[row * config.samples : row * config.samples + min(2, config.samples)]
    shots = [turntable(solver.model.denoiser, one[None], around(first, FRAMES), FRAME_PX) for one in sampled]
    if found.regression is not None:
        one = found.regression[row : row + 1]
        shots.append(turntable(solver.model.regression, one, around(first, FRAMES), FRAME_PX))
    return gif(torch.cat(shots, -1))


@torch.no_grad()
def turntable(
    network: GridDenoiser, signal: Float[Tensor, "1 ..."], camera: Camera, size: int
) -> Float[Tensor, "frames 3 {size} {size}"]:
    """What square cameras see of a signal, in [-1, 1].

    **Arguments:**
    - `camera`: leaves `(1, frames, ...)`.
    """
    before = 2 * camera.intrinsics[0, 0, 0, 2].item()  # the centre is in the middle of the image
    camera = resize_camera(camera, size / before, size / before)
    seen = []
    for number in range(camera.intrinsics.shape[1]):
        params = whole_image(Camera(*(leaf[:, number : number + 1] for leaf in camera)), size, size)
        seen.append(2 * network.forward_model(signal, params)[0, 0].float().cpu() - 1)
    return torch.stack(seen)


def gif(frames: Float[Tensor, "frames 3 height width"]) -> bytes:
    """A looping GIF of images in [-1, 1]."""
    pictures = [Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE) for frame in to_uint8(frames)]
    buffer = io.BytesIO()
    duration = 1000 // FRAMES_PER_SECOND
    pictures[0].save(buffer, "gif", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return buffer.getvalue()
