"""How a fitted field shows views that it has not seen."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import NamedTuple

import torch
from goembed_core.metrics.images import psnr, ssim
from goembed_core.metrics.lpips import LPIPS
from goembed_core.metrics.results import MetricValue, Results
from goembed_core.progress import ProgressLine
from goembed_multiview_datasets.scenes import PosedImages
from goembed_nerf_renderer.cameras import Camera
from jaxtyping import Float, UInt8
from torch import Tensor

from goembed_fit_scene.config import FitSceneConfig
from goembed_fit_scene.model import Model
from goembed_fit_scene.scene import Scene
from goembed_fit_scene.turntable import turntable, write_videos

FRAME_PIXELS = 200 * 200  # at most, of the evaluation's turntable; that of `goembed sample` has any size


class Views(NamedTuple):
    """What a field shows of some cameras."""

    colour: Float[Tensor, "views 3 height width"]
    depth: Float[Tensor, "views height width"]  # the mean distance of what is seen; NaN where nothing is
    opacity: Float[Tensor, "views height width"]


class About(NamedTuple):
    """What a field is."""

    name: str
    parameters: int
    cells: tuple[int, int, int]
    occupied: float  # share of the cells


class Evaluation(NamedTuple):
    """Everything that the report shows."""

    field: About

    results: Results
    held_out: Views
    psnr: Float[Tensor, " views"]
    frames: UInt8[Tensor, "frames height width 3"]
    seconds: dict[str, float]


def look(model: Model, camera: Camera, height: int, width: int, title: str) -> Views:
    """Render whole images of cameras with leaves `(V, ...)`."""
    device = model.field.box.low.device
    found = []
    with ProgressLine(title, len(camera.intrinsics), unit="views") as line:
        for number, (pose, intrinsics) in enumerate(zip(*camera, strict=True), 1):
            seen = model.view(Camera(pose.to(device), intrinsics.to(device)), height, width)
            colour, depth, opacity = (leaf[0, 0].cpu() for leaf in (seen.colour, seen.depth, seen.opacity))
            mean = torch.where(opacity > 0.5, depth / opacity.clamp(min=0.5), torch.nan)
            found.append(Views(colour.clamp(0, 1), mean, opacity))
            line.advance_to(number, "")
    return Views(*(torch.stack(leaves) for leaves in zip(*found, strict=True)))


def evaluate(config: FitSceneConfig, model: Model, scene: Scene, lpips: LPIPS | None, folder: Path) -> Evaluation:
    """PSNR, SSIM and LPIPS of held-out views; the turntable is written to `folder`."""
    seconds, began = {}, time.monotonic()
    test = held_out(scene.test, config.evaluate.views)
    shown = look(model, test.camera, *test.images.shape[2:], "held out")
    seconds["held-out views"] = time.monotonic() - began
    count = len(test.images)
    note = f"{count} held-out views of {scene.name} at {test.images.shape[3]} x {test.images.shape[2]}"
    each = psnr(shown.colour, test.images, data_range=1.0)
    metrics = {
        "psnr": MetricValue(each.mean().item(), True, count, f"{note}, dB, mean of the views"),
        "ssim": MetricValue(ssim(shown.colour, test.images, data_range=1.0).mean().item(), True, count, note),
    }
    if lpips is not None:
        distance = torch.cat(
            [lpips(2 * a - 1, 2 * b - 1) for a, b in zip(shown.colour.split(8), test.images.split(8), strict=True)]
        )
        metrics["lpips"] = MetricValue(distance.mean().item(), False, count, f"{note}, AlexNet")
    metrics["seconds"] = MetricValue(model.facts["seconds"], False, 1, "of training, of the wall clock")
    began = time.monotonic()
    width, height = model.facts["size"]
    frames = turntable(model, config.evaluate.turntable_frames, min(2.0, math.sqrt(FRAME_PIXELS / (width * height))))
    write_videos(frames, folder)
    seconds["turntable"] = time.monotonic() - began
    results = Results("fit_scene", model.facts["images_seen"], metrics)
    about = About(
        config.field.name,
        sum(parameter.numel() for parameter in model.field.parameters()),
        model.field.box.cells,
        model.field.box.occupied.float().mean().item(),
    )
    return Evaluation(about, results, shown, each, frames, seconds)


def held_out(test: PosedImages, count: int | None) -> PosedImages:
    """So many of the views, spread evenly."""
    if count is None or count >= len(test.images):
        return test
    rows = torch.linspace(0, len(test.images) - 1, count).round().long()
    return PosedImages(
        test.images[rows], test.alpha[rows], Camera(*(x[rows] for x in test.camera)), test.near_far[rows]
    )
