"""`goembed sample`: a turntable of the field, and the field as points or as a mesh."""

from __future__ import annotations

from pathlib import Path

import torch
from goembed_core.errors import UserError
from goembed_core.runs import Run
from goembed_nerf_renderer.export import as_mesh, as_points

from goembed_fit_scene import model as models
from goembed_fit_scene.config import EvaluateConfig, SampleConfig
from goembed_fit_scene.turntable import turntable, write_videos


def sample(run: Run, config: SampleConfig) -> Path:
    """Write `turntable.mp4`, `turntable.gif` and what is exported; returns their folder."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.load(run.model, EvaluateConfig().chunk_points, device)
    folder = config.out or run.samples
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}") from None
    width, height = model.facts["size"]
    if config.export in ("ply", "all"):
        points = as_points(model.renderer, model.signal, model.views, height, width, config.min_opacity)
        points.export(folder / "points.ply")
    if config.export in ("glb", "all"):
        mesh = as_mesh(model.field, model.field.box, config.mesh_cells, config.mesh_opacity)
        mesh.export(folder / "mesh.glb")
    write_videos(turntable(model, config.frames, config.scale), folder)
    return folder
