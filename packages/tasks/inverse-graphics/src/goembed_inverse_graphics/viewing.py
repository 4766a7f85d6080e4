"""What `goembed view` shows of a run: scenes that one unseen image could be of, and pixelNeRF's one answer."""

from __future__ import annotations

import functools

import torch
from goembed_core.config import resolve_run
from goembed_core.runs import Run
from goembed_core.trees import repeat_items, select_items, select_views
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.config import FieldConfig
from goembed_nerf_renderer.export import as_mesh
from goembed_nerf_renderer.fields import RadianceField
from goembed_nerf_renderer.viewing import Viewable

from goembed_inverse_graphics import model as models
from goembed_inverse_graphics.sampling import middle, unseen_scene
from goembed_inverse_graphics.solve import Solver, all_scenes

SCENES, ITEM, SEED = 4, 0, 0
MESH_CELLS, MESH_OPACITY = 96, 0.2


def viewables(run: Run) -> list[Viewable]:
    """Samples of the test split's first scene by the run's own sampler, among all views that the dataset has of it."""
    config = resolve_run(run.dir).config
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.load(run.model, device)
    found = unseen_scene(model, ITEM, device)
    context = select_views(found, slice(0, model.views.context))
    target = select_views(found.params, slice(model.views.context, model.views.context + 1))
    solver = Solver(model, SEED, SCENES, device)
    samples = solver.trajectory(repeat_items(context, SCENES), repeat_items(target, SCENES), config.sampler)
    scenes = all_scenes(samples)
    height, width = model.size
    box, centre = middle(model, device)
    lattice = FieldBox(FieldConfig(box=box), MESH_CELLS).to(device)

    def shown(name: str, scene: RadianceField) -> Viewable:
        return Viewable(
            name=name,
            signal=scene,
            renderer=model.forward_model.renderer,
            views=Camera(*(leaf[0] for leaf in found.params.camera)),
            size=(width, height),
            centre=centre,
            images=(found.values[0] + 1) / 2,
            mesh=functools.partial(as_mesh, scene, lattice, MESH_CELLS, MESH_OPACITY),
        )

    sampled = [shown(f"sample {n + 1}", select_items(scenes, slice(n, n + 1))) for n in range(SCENES)]
    return [*sampled, shown("pixelNeRF", solver.estimate(context))]
