"""What `goembed view` shows of a run: its field, and those that it is compared with."""

from __future__ import annotations

import functools

import torch
from goembed_core.config import resolve_run
from goembed_core.errors import UserError
from goembed_core.runs import Run
from goembed_nerf_renderer.export import as_mesh
from goembed_nerf_renderer.viewing import Viewable
from jaxtyping import Float
from torch import Tensor

from goembed_fit_scene import model as models
from goembed_fit_scene.config import EvaluateConfig, rival_dir, rivals
from goembed_fit_scene.scene import load_scene
from goembed_fit_scene.turntable import middle

MESH_CELLS, MESH_OPACITY = 128, 0.2


def viewables(run: Run) -> list[Viewable]:
    """The run's field and the others that were fitted to the scene, with the photographs where they are at hand."""
    config = resolve_run(run.dir).config
    images = None
    try:
        images = load_scene(config).train.images
    except UserError as error:
        print(f"cameras without their photographs: {error}", flush=True)
    folders = {config.field.name: run.model}
    folders |= {name: Run.open(rival_dir(run.dir, name)).model for name in rivals(config)}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chunk = EvaluateConfig().chunk_points
    return [_viewable(name, models.load(folder, chunk, device), images) for name, folder in folders.items()]


def _viewable(name: str, model: models.Model, images: Float[Tensor, "views 3 height width"] | None) -> Viewable:
    return Viewable(
        name=name,
        signal=model.signal,
        renderer=model.renderer,
        views=model.views,
        size=tuple(model.facts["size"]),
        centre=middle(model).to(model.field.box.low),
        images=images,
        mesh=functools.partial(as_mesh, model.field, model.field.box, MESH_CELLS, MESH_OPACITY),
    )
