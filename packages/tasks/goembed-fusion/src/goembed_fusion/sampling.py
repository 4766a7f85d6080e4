"""`goembed sample`: once round a held-out object, as each method has decoded it from a few views."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from goembed_core.config.resolve import resolve_run
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.report.figures import to_uint8
from goembed_core.runs import Run
from goembed_core.trees import select_items, select_views
from goembed_nerf_renderer.cameras import Camera, look_at, resize_camera, whole_image
from PIL import Image

from goembed_fusion import methods as models
from goembed_fusion.config import SampleConfig
from goembed_fusion.embed import load_embedded
from goembed_fusion.evaluation import Judge
from goembed_fusion.methods import Model
from goembed_fusion.scenes import load
from goembed_fusion.trained import TASK

FRAMES_PER_SECOND = 12


@torch.no_grad()
def sample(run: Run | None, config: SampleConfig) -> Path:
    """Write `turntable.gif`, the methods beside each other, and `sources.png`; returns their folder."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, sources = _embedded(config, device) if run is None else _of_run(run, config, device)
    folder = config.out or (Path("samples") if run is None else run.samples)
    folder.mkdir(parents=True, exist_ok=True)
    camera = around(sources, config.frames)
    size = sources.values.shape[-1]
    camera = resize_camera(camera, config.size / size, config.size / size)
    signals = {name: model.embed(name, sources) for name in model.methods}
    frames = []
    for number in range(config.frames):
        params = whole_image(Camera(*(leaf[:, number : number + 1] for leaf in camera)), config.size, config.size)
        seen = [method.forward_model(signals[name], params)[0, 0] for name, method in model.methods.items()]
        frames.append(Image.fromarray(to_uint8(2 * torch.cat(seen, -1) - 1)))
    palette = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames]
    duration = 1000 // FRAMES_PER_SECOND
    palette[0].save(folder / "turntable.gif", save_all=True, append_images=palette[1:], duration=duration, loop=0)
    beside = torch.cat(list(sources.values[0]), -1)
    Image.fromarray(to_uint8(2 * beside - 1)).save(folder / "sources.png")
    return folder


def _of_run(run: Run, config: SampleConfig, device: torch.device) -> tuple[Model, Observations]:
    """A run's model, and the views of the object that are asked for."""
    settings = resolve_run(run.dir).config
    model = models.load(run.model, settings.task, device)
    judge = Judge(settings.evaluate, load(settings.dataset, "test"), device)
    _require(config, *judge.held_out.sources.shape, "the run holds {} objects out")
    return model, judge.sources(judge.everything[config.object : config.object + 1], config.sources)


def _embedded(config: SampleConfig, device: torch.device) -> tuple[Model, Observations]:
    """The package's model, and views that it carries too."""
    if config.task != TASK:
        raise UserError(f"task={config.task} carries no model: give the folder of a run")
    model, views = load_embedded(device)
    _require(config, *views.values.shape[:2], "the package carries views of {} objects")
    return model, select_views(select_items(views, slice(config.object, config.object + 1)), slice(0, config.sources))


def _require(config: SampleConfig, objects: int, views: int, holds: str) -> None:
    if config.object >= objects:
        raise UserError(f"object={config.object}: {holds.format(objects)}; give one below")
    if config.sources > views:
        raise UserError(f"sources={config.sources}: the fixed list has {views} views of each object; give at most that")


def around(sources: Observations, count: int) -> Camera:
    """Cameras once round the vertical axis, as high and far as the sources on average; leaves `(1, count, ...)`."""
    pose, intrinsics = sources.params.camera
    places = pose[0, :, :3, 3]
    height, radius = places[:, 2].mean(), places[:, :2].norm(dim=1).mean()
    turn = 2 * math.pi * torch.arange(count, device=places.device) / count
    eyes = torch.stack([radius * turn.cos(), radius * turn.sin(), height.expand(count)], 1)
    up = places.new_tensor([0.0, 0.0, 1.0])
    poses = look_at(eyes, torch.zeros_like(up), up)
    return Camera(poses[None], intrinsics.mean(1, keepdim=True).expand(-1, count, 3, 3))
