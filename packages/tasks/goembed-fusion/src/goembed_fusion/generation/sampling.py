"""`goembed sample`: objects that a few views of a held-out one, or none, could be of; turntables, points and meshes."""

from __future__ import annotations

from pathlib import Path

import torch
from goembed_core.config import resolve_run
from goembed_core.errors import UserError
from goembed_core.report.figures import image_grid
from goembed_core.runs import Run
from goembed_core.trees import select_items, select_views
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.config import FieldConfig
from goembed_nerf_renderer.export import as_mesh, as_points
from torch import Tensor

from goembed_fusion.generation import model as models
from goembed_fusion.generation.config import FusionSampleConfig
from goembed_fusion.generation.grids import GridDenoiser
from goembed_fusion.generation.judged import judged_views
from goembed_fusion.generation.pictures import gif, turntable
from goembed_fusion.generation.solve import Solver
from goembed_fusion.sampling import around
from goembed_fusion.scenes import load

POINT_VIEWS = 12  # whose pixels make the cloud


def sample(run: Run | None, config: FusionSampleConfig) -> Path:
    """Write what the settings ask for; returns the folder.

    `sampleNN.gif` goes once round each sample, `regression.gif` round the reconstruction without noise; `grid.png`
    shows what was given, and each sample from the views whose noise was removed.
    """
    if run is None:
        raise UserError("task=goembed_fusion carries no model: give the folder of a run")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = resolve_run(run.dir).config
    solver = Solver(models.load(run.model, device), config.seed, config.num_samples)
    judged = judged_views(settings, load(settings.dataset, "test"), device)
    if config.object >= len(judged.names):
        raise UserError(f"object={config.object}: the run's list has {len(judged.names)} objects; give one below")
    most = judged.context.values.shape[1]
    if config.sources > most:
        raise UserError(f"sources={config.sources}: the fixed list has {most} views of each object; give at most that")
    folder = config.out or run.samples
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}") from None

    row = slice(config.object, config.object + 1)
    context, target = select_items(judged.context, row), select_items(judged.target, row)
    given = select_views(context, slice(0, config.sources))
    network = solver.model.denoiser
    found = solver.samples(solver.encode(network, given), target.params, config.num_samples, config.sampler, "sample")
    ride = around(context, config.frames)
    for number in range(config.num_samples):
        planes = found.signals[number : number + 1]
        (folder / f"sample{number:02d}.gif").write_bytes(gif(turntable(network, planes, ride, config.size)))
        _export(folder, f"sample{number:02d}", network, planes, around(context, POINT_VIEWS), config)
    if solver.model.regression is not None:
        planes = solver.regress(solver.encode(solver.model.regression, given))
        frames = turntable(solver.model.regression, planes, ride, config.size)
        (folder / "regression.gif").write_bytes(gif(frames))
    shown = torch.cat([given.values.expand(config.num_samples, -1, -1, -1, -1), found.images], 1).cpu()
    labels = [f"given {n + 1}" for n in range(config.sources)]
    labels += [f"view {n + 1}" for n in range(found.images.shape[1])]
    image_grid(shown, [str(n + 1) for n in range(config.num_samples)], labels).savefig(folder / "grid.png")
    return folder


def _export(
    folder: Path, name: str, network: GridDenoiser, planes: Tensor, views: Camera, config: FusionSampleConfig
) -> None:
    model = network.forward_model
    field = model.decode(planes)
    if config.export in ("ply", "all"):
        cameras = Camera(*(leaf[0] for leaf in views))
        side = round(2 * views.intrinsics[0, 0, 0, 2].item())
        as_points(model.renderer, field, cameras, side, side, config.opacity).export(folder / f"{name}.ply")
    if config.export in ("glb", "all"):
        lattice = FieldBox(FieldConfig(box=model.config.box), config.mesh_cells).to(planes.device)
        as_mesh(field, lattice, config.mesh_cells, config.opacity).export(folder / f"{name}.glb")
