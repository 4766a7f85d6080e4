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
from goembed_nerf_renderer.cameras import Camera, look_at, resize_camera, whole_image
from PIL import Image

from goembed_fusion import methods as models
from goembed_fusion.config import SampleConfig
from goembed_fusion.evaluation import Judge
from goembed_fusion.scenes import load

FRAMES_PER_SECOND = 12


@torch.no_grad()
def sample(run: Run | None, config: SampleConfig) -> Path:
    """Write `turntable.gif`, the methods beside each other, and `sources.png`; returns their folder."""
    if run is None:
        raise UserError(f"task={config.task} carries no model: give the folder of a run")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = resolve_run(run.dir).config
    model = models.load(run.model, settings.task, device)
    judge = Judge(settings.evaluate, load(settings.dataset, "test"), device)
    if config.object >= len(judge.everything):
        raise UserError(f"object={config.object}: the run holds {len(judge.everything)} objects out; give one below")
    most = judge.held_out.sources.shape[1]
    if config.sources > most:
        raise UserError(f"sources={config.sources}: the fixed list has {most} views of each object; give at most that")
    folder = config.out or run.samples
    folder.mkdir(parents=True, exist_ok=True)
    sources = judge.sources(judge.everything[config.object : config.object + 1], config.sources)
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
