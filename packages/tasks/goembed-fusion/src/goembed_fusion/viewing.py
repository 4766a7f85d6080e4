"""What `goembed view` shows of a run: what each method has decoded, or samples, of a held-out object."""

from __future__ import annotations

import functools
from typing import Any

import torch
from goembed_core.config import resolve_run
from goembed_core.protocols import Observations
from goembed_core.runs import Run
from goembed_core.trees import select_items, select_views
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.config import FieldConfig
from goembed_nerf_renderer.export import as_mesh
from goembed_nerf_renderer.viewing import Viewable
from goembed_triplane.model import SceneModel

from goembed_fusion import methods as models
from goembed_fusion.evaluation import Judge, shown_sources
from goembed_fusion.generation import model as generators
from goembed_fusion.generation.judged import judged_views
from goembed_fusion.generation.solve import Solver
from goembed_fusion.generation.task import EVALUATION_SEED
from goembed_fusion.pictures import label
from goembed_fusion.scenes import load

OBJECT, SAMPLES = slice(0, 1), 4
MESH_CELLS, MESH_OPACITY = 96, 0.2


def encodings(run: Run) -> list[Viewable]:
    """The first held-out object, encoded from four views by each method, among these views."""
    settings, device = resolve_run(run.dir).config, _device()
    model = models.load(run.model, settings.task, device)
    judge = Judge(settings.evaluate, load(settings.dataset, "test"), device)
    sources = judge.sources(judge.everything[OBJECT], shown_sources(settings.evaluate))
    with torch.no_grad():
        signals = {name: model.embed(name, sources) for name in model.methods}
    return [
        _viewable(label(name).replace("\n", ", "), method.forward_model, signals[name], sources)
        for name, method in model.methods.items()
    ]


def samples(run: Run) -> list[Viewable]:
    """Samples of the first held-out object by the run's own sampler, from the fewest views and from none."""
    config, device = resolve_run(run.dir).config, _device()
    solver = Solver(generators.load(run.model, device), EVALUATION_SEED, SAMPLES)
    judged = judged_views(config, load(config.dataset, "test"), device)
    context, target = (select_items(part, OBJECT) for part in (judged.context, judged.target))
    given = select_views(context, slice(0, min(config.evaluate.context)))
    network, found = solver.model.denoiser, []
    for name, count, views in (("sample", SAMPLES, given), ("of nothing", 1, select_views(context, slice(0, 0)))):
        drawn = solver.samples(solver.encode(network, views), target.params, count, config.sampler, name)
        for number in range(count):
            called = f"{name} {number + 1}" if count > 1 else f"sample {name}"
            found.append(_viewable(called, network.forward_model, drawn.signals[number : number + 1], _unsigned(given)))
    other = solver.model.regression
    if other is not None:
        planes = solver.regress(solver.encode(other, given))
        found.append(_viewable("regression", other.forward_model, planes, _unsigned(given)))
    return found


def _viewable(name: str, forward_model: SceneModel, signal: Any, views: Observations) -> Viewable:
    """One object, among the views of it, images in [0, 1], that were given."""
    field, box = forward_model.decode(signal), forward_model.config.box
    lattice = FieldBox(FieldConfig(box=box), MESH_CELLS).to(views.values.device)
    height, width = views.values.shape[-2:]
    return Viewable(
        name=name,
        signal=field,
        renderer=forward_model.renderer,
        views=Camera(*(leaf[0] for leaf in views.params.camera)),
        size=(width, height),
        centre=views.values.new_tensor([0.5 * (a + b) for a, b in zip(box.low, box.high, strict=True)]),
        images=views.values[0],
        mesh=functools.partial(as_mesh, field, lattice, MESH_CELLS, MESH_OPACITY),
    )


def _unsigned(views: Observations) -> Observations:
    return views._replace(values=0.5 * (views.values + 1))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
