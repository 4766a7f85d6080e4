"""The pictures of motion: fields in colours and arrows, and clips that play."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from goembed_core.report.builder import Report
from goembed_core.report.figures import image_grid, line_plot, to_uint8
from goembed_core.report.style import INK, TEXT_PT, new_figure
from goembed_softsplat_warp.model import MovingImage
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from goembed_motion.evaluation import Evaluation
from goembed_motion.flow import flow_colours
from goembed_motion.solve import Solver

SHOWN = 6  # samples of each context
FRAMES, FPS = 13, 12


def samples_figure(found: Evaluation, contexts: int, largest_px: float) -> Figure:
    """Context, true target, samples' motions and targets, the baseline's: two rows a context."""
    count = len(found.motions.target) // len(found.clips.values)
    rows, labels = [], []
    for i in range(min(contexts, len(found.clips.values))):
        part = slice(i * count, i * count + SHOWN)
        motion = flow_colours(found.motions.signal.motion[part], largest_px).cpu()
        true = torch.full_like(motion[:1], torch.nan)
        if found.true_flow is not None:
            true = flow_colours(found.true_flow[i : i + 1], largest_px)
        answer = flow_colours(found.baseline.signal.motion[i : i + 1], largest_px).cpu()
        context, target = found.clips.values[i, :1], found.clips.values[i, 1:2]
        rows += [
            torch.cat([context, target, found.motions.target[part].cpu(), found.baseline.target[i : i + 1].cpu()]),
            torch.cat([torch.full_like(context, torch.nan), true, motion, answer]),
        ]
        labels += [f"{i + 1}", "motion"]
    columns = ["context", "true future", *(f"sample {k + 1}" for k in range(SHOWN)), "baseline"]
    return image_grid(torch.stack(rows), labels, columns)


def arrows_figure(image: Float[Tensor, "3 height width"], motions: Float[Tensor, "n 2 height width"]) -> Figure:
    """Motions as arrows on the image, one panel each; pixels that move less than half a pixel have none."""
    count, (height, width) = len(motions), image.shape[1:]
    side, gap = 190, 8
    figure = new_figure(count * (side + gap), side + 4)
    total = count * (side + gap)
    step = max(1, min(height, width) // 16)
    ys, xs = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    for k, motion in enumerate(motions.cpu().numpy()):
        axes = figure.add_axes((k * (side + gap) / total, 0, side / total, side / (side + 4)))
        axes.imshow(to_uint8(image[None])[0], extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        dx, dy = motion[:, ys, xs]
        moving = np.hypot(dx, dy) > 0.5
        axes.quiver(
            xs[moving], ys[moving], dx[moving], dy[moving], angles="xy", scale_units="xy", scale=1, color="#ff2d7a",
            width=0.008,
        )  # fmt: skip
        axes.set_axis_off()
    return figure


def wheel_figure(largest_px: float, side: int = 65) -> Figure:
    """Which colour means which motion."""
    line = torch.linspace(-1.0, 1.0, side) * largest_px
    y, x = torch.meshgrid(line, line, indexing="ij")
    field = torch.stack([x, y])
    colours = to_uint8(flow_colours(field, largest_px)[None])[0].copy()
    colours[(field.norm(dim=0) > largest_px).numpy()] = 255
    figure = new_figure(130, 150)
    axes = figure.add_axes((0.1, 0.02, 0.8, 0.8))
    axes.imshow(colours)
    axes.set_axis_off()
    axes.set_title(f"up to {largest_px:g} px", size=TEXT_PT, color=INK)
    return figure


def clips(solver: Solver, signal: MovingImage, frames: int = FRAMES) -> Float[Tensor, "n frames 3 height width"]:
    """Moving images at evenly spaced times from 0 to 1."""
    time = torch.linspace(0, 1, frames, device=signal.motion.device).expand(len(signal.motion), -1)
    return solver.show(signal, time)


def film(
    videos: Float[Tensor, "rows columns frames 3 height width"], enlarge: int | None = None, gap: int = 4
) -> UInt8[np.ndarray, "frames height width 3"]:
    """Videos side by side, enlarged by a whole factor; even in height and width, as H.264 needs."""
    rows, columns, frames, _, height, width = videos.shape
    factor = enlarge or max(1, 128 // max(height, width))
    tiles = to_uint8(videos).repeat(factor, 3).repeat(factor, 4)
    sheet = np.full((frames, rows * (tiles.shape[3] + gap), columns * (tiles.shape[4] + gap), 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            y, x = row * (tiles.shape[3] + gap), column * (tiles.shape[4] + gap)
            sheet[:, y : y + tiles.shape[3], x : x + tiles.shape[4]] = tiles[row, column]
    return sheet[:, : sheet.shape[1] // 2 * 2, : sheet.shape[2] // 2 * 2]


def there_and_back(frames: np.ndarray) -> np.ndarray:
    """A loop without a jump."""
    return np.concatenate([frames, frames[-2:0:-1]])


def write_gif(path: Path, frames: UInt8[np.ndarray, "frames height width 3"], fps: int = FPS) -> None:
    """Write a looping GIF."""
    path.write_bytes(gif(frames, fps))


def gif(frames: UInt8[np.ndarray, "frames height width 3"], fps: int = FPS) -> bytes:
    """A looping GIF."""
    buffer, pictures = io.BytesIO(), [Image.fromarray(frame) for frame in frames]
    pictures[0].save(
        buffer, "gif", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, optimize=False
    )
    return buffer.getvalue()


def write_mp4(path: Path, frames: UInt8[np.ndarray, "frames height width 3"], fps: int = FPS) -> None:
    """Write H.264 in MP4, which every browser plays; height and width have to be even."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def compose(report: Report, solver: Solver, found: Evaluation, contexts: int) -> None:
    """The sections of the report between its head and the training curves."""
    count = len(found.motions.target) // len(found.clips.values)
    shown = min(contexts, len(found.clips.values))
    speed = found.motions.signal.motion.norm(dim=1).flatten(1).amax(1)
    largest = max(1.0, torch.quantile(speed, 0.9).item())
    report.section(
        "Samples",
        "Each pair of rows is one context: above, the context, the future that came, futures that were sampled, and "
        "the one answer of the deterministic baseline; below, their motions, as colours.",
    )
    report.figure(samples_figure(found, contexts, largest), "Futures of one image, and the motions that make them")
    report.figure(wheel_figure(largest), "What the colours mean: direction is hue, speed is saturation")
    for i in range(min(2, shown)):
        motions = found.motions.signal.motion[i * count : i * count + 4]
        answer = found.baseline.signal.motion[i : i + 1]
        arrows = arrows_figure(found.clips.values[i, 0], torch.cat([motions, answer]))
        report.figure(arrows, f"Context {i + 1}: four samples and, last, the baseline, as arrows")
    report.section("Clips", "Time runs from 0 to 1 and back; the last column is the baseline.")
    rows = torch.arange(shown)[:, None] * count + torch.arange(min(5, count))
    signal = MovingImage(
        *(torch.cat([a[rows.to(a.device)], b[:shown, None]], 1).flatten(0, 1)
          for a, b in zip(found.motions.signal, found.baseline.signal, strict=True))
    )  # fmt: skip
    videos = clips(solver, signal).unflatten(0, (shown, -1)).cpu()
    report.animation(gif(there_and_back(film(videos, enlarge=max(1, 96 // videos.shape[-1])))), "Sampled futures")
    if found.study:
        report.section("Samplers", "Distance in pixels of moving pixels from the nearest possible future.")
        steps = list(found.study["unipc"])
        report.table(
            ["sampler", *(f"{n} steps" for n in steps)], [[name, *row.values()] for name, row in found.study.items()]
        )
        lines = {name: list(row.values()) for name, row in found.study.items()}
        report.figure(line_plot(steps, lines, "evaluations of the denoiser", "pixels"), "Error over evaluations")
