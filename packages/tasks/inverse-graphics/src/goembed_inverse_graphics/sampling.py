"""`goembed sample`: scenes that one image of the run's unseen scenes could be of; turntables, points and meshes."""

from __future__ import annotations

from pathlib import Path

import torch
from goembed_core.errors import UserError
from goembed_core.precision import autocast
from goembed_core.protocols import Observations
from goembed_core.report.figures import image_grid
from goembed_core.runs import Run
from goembed_core.trees import repeat_items, select_items, select_views, tree_map
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera, whole_image
from goembed_nerf_renderer.config import FieldConfig, SceneBox
from goembed_nerf_renderer.export import as_mesh, as_points
from jaxtyping import Float
from torch import Tensor

from goembed_inverse_graphics import model as models
from goembed_inverse_graphics.config import SampleConfig
from goembed_inverse_graphics.data import require_dataset
from goembed_inverse_graphics.solve import Solver, all_scenes
from goembed_inverse_graphics.turntable import around, film, frames, gif, write_mp4

POINT_VIEWS = 12  # whose pixels make the cloud


def sample(run: Run | None, config: SampleConfig) -> Path:
    """Write what the settings ask for; returns the folder.

    `sampleNN.mp4` and `.gif` go once round each scene, colour beside nearness; `pixelnerf.mp4` and `.gif` round the
    deterministic estimate; `grid.png` shows the context and each scene from the sampled views.
    """
    if run is None:
        raise UserError(
            "task=inverse_graphics has no embedded model: train one, then `goembed sample RUN` with its folder"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.load(run.model, device)
    found = unseen_scene(model, config.item, device)
    folder = config.out or run.samples
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}") from None

    context = select_views(found, slice(0, model.views.context))
    box, centre = middle(model, device)
    height, width = model.size
    solver = Solver(model, config.seed, config.num_samples, device)
    path = around(context.params, centre, config.num_views + 1)  # the first is where the context is
    target = whole_image(Camera(*(leaf[:, 1:] for leaf in path)), height, width)
    many: Observations = repeat_items(context, config.num_samples)
    samples = solver.trajectory(many, repeat_items(target, config.num_samples), config.sampler)
    scenes = all_scenes(samples)

    ride = around(context.params, centre, config.frames)
    for number in range(config.num_samples):
        scene, name = select_items(scenes, slice(number, number + 1)), f"sample{number:02d}"
        _write_ride(folder, name, frames(solver, scene, ride, model.size, config.scale), config.fps)
        if config.export in ("ply", "all"):
            cameras = around(context.params, centre, POINT_VIEWS)
            renderer, views = model.forward_model.renderer, Camera(*(leaf[0] for leaf in cameras))
            with autocast(solver.precision, device):
                points = as_points(renderer, scene, views, height, width, config.opacity)
            points.export(folder / f"{name}.ply")
        if config.export in ("glb", "all"):
            lattice = FieldBox(FieldConfig(box=box), config.mesh_cells).to(device)
            as_mesh(scene, lattice, config.mesh_cells, config.opacity).export(folder / f"{name}.glb")
    estimate = frames(solver, solver.estimate(context), ride, model.size, config.scale)
    _write_ride(folder, "pixelnerf", estimate, config.fps)
    shown = torch.cat([many.values[:, :1], samples.images], 1).cpu()
    labels = ["context", *(f"view {view + 1}" for view in range(config.num_views))]
    image_grid(shown, [str(n + 1) for n in range(config.num_samples)], labels).savefig(folder / "grid.png")
    return folder


def unseen_scene(model: models.Model, item: int, device: torch.device) -> Observations:
    """All views of a scene of the test split, `(1, V, 3, H, W)` in [-1, 1]."""
    require_dataset(model.dataset)
    dataset = models.held_out(model.dataset).build()
    if item >= len(dataset):
        raise UserError(f"item={item}: the test split has scenes 0 to {len(dataset) - 1}")
    found = dataset.observations(torch.tensor([item]))
    return tree_map(lambda leaf: leaf.to(device), found._replace(values=2 * found.values - 1))


def middle(model: models.Model, device: torch.device) -> tuple[SceneBox, Float[Tensor, " 3"]]:
    """Where the scenes are, and its centre."""
    box = model.forward_model.renderer.config.box or SceneBox()
    return box, torch.tensor([0.5 * (a + b) for a, b in zip(box.low, box.high, strict=True)], device=device)


def _write_ride(folder: Path, name: str, video: torch.Tensor, fps: int) -> None:
    pictures = film(video)
    write_mp4(folder / f"{name}.mp4", pictures, fps)
    (folder / f"{name}.gif").write_bytes(gif(pictures, fps))
