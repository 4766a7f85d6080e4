"""`goembed check-cameras`: a page on which wrong cameras are seen, and a table that says which mistake it may be."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.report import Report
from goembed_core.report.figures import to_uint8
from goembed_core.report.style import COLOURS, INK, PAGE_WIDTH_PX, TEXT_PT, legend, new_figure, quiet
from goembed_nerf_renderer.cameras import Camera, frustum, project
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from goembed_multiview_datasets.config import CheckCamerasConfig
from goembed_multiview_datasets.consistency import (
    MISTAKES,
    along_ray,
    nearest_views,
    small,
    strong_corners,
    sweep_error,
)
from goembed_multiview_datasets.scenes import PosedImages

POINTS = 6  # that are followed from the first view into the others
COMPARED = 6  # views that the mistakes are tried on
SUSPECT = 0.7  # a mistake is named whose undoing brings the error below this share of it
MAX_FRUSTA = 100


class Verdict(NamedTuple):
    """What came of a look at some cameras."""

    errors: dict[str, float]  # of the cameras as they are (`""`), and of each mistake undone
    suspect: str | None  # the mistake without which they would fit better


def check_cameras(config: CheckCamerasConfig) -> int:
    """The command: write the page, and exit with 1 where another convention fits better."""
    dataset = config.dataset.build()
    if not config.item < len(dataset):
        raise UserError(f"item={config.item}: the dataset has {len(dataset)}; give a smaller one")
    scene = dataset[config.item]
    if not isinstance(scene, PosedImages):
        raise UserError(f"dataset={config.dataset.name}: holds no posed views; give blender, llff or another of them")
    if not config.view < len(scene.images) or len(scene.images) < 2:
        raise UserError(f"view={config.view}: the item has {len(scene.images)} views, and two at least are compared")
    verdict = judge(scene)
    page(config, scene, verdict).write(config.out)
    told = f"these cameras may be {verdict.suspect}" if verdict.suspect else "no other convention fits better"
    print(f"{told}; look at {config.out}")
    return 1 if verdict.suspect else 0


def judge(scene: PosedImages) -> Verdict:
    """How well pictures and cameras agree, and how well they would if a likely mistake were undone."""
    scene = small(scene)
    pose = scene.camera.camera_to_world
    views = torch.linspace(0, len(pose) - 1, min(COMPARED, len(pose))).round().long().unique().tolist()
    pairs = [(view, nearest_views(pose, view, 3)) for view in views]
    errors = {
        name: sum(sweep_error(scene, view, others, undo(pose)) for view, others in pairs) / len(pairs)
        for name, undo in ({"": lambda pose: pose} | MISTAKES).items()
    }
    best = min(MISTAKES, key=lambda name: errors[name])
    return Verdict(errors, best if errors[best] < SUSPECT * errors[""] else None)


def page(config: CheckCamerasConfig, scene: PosedImages, verdict: Verdict) -> Report:
    """The page."""
    views, _, height, width = scene.images.shape
    report = Report("Cameras", f"{config.dataset.name}, item {config.item}: {views} views of {width} x {height} pixels")
    if verdict.suspect:
        report.text(f"These cameras may be {verdict.suspect}: undone, the pictures agree better.")
    report.section(
        "Conventions",
        "Textured pixels of some views are looked for in the three nearest ones at many depths between near and far; "
        "the error is the median of the best. Right cameras have the smallest one, by far where "
        "views stand close together and differ in depth; a mistake is named if its undoing takes 30 % off the error.",
    )
    rows = [[name or "as they are", error] for name, error in verdict.errors.items()]
    report.table(["cameras", "error"], rows)
    report.section(
        "Epipolar lines",
        "Points of the first picture, and in the others where each may be: from near (dot) to far (square). A line has "
        "to go through the very place that its point shows, unless something is before it.",
    )
    report.figure(epipolar_lines(scene, config.view, config.others))
    report.section(
        "Frusta",
        "Every camera, its image at the near distance drawn to scale, its line of sight to behind the cross, "
        "which all of these come closest to; blue is the first.",
    )
    report.figure(frusta(scene))
    report.section("Near and far", "Distances along the ray of each view, and of its camera from that place.")
    report.figure(distances(scene))
    return report


def epipolar_lines(scene: PosedImages, view: int, count: int) -> Figure:
    """Points of a view, and where they may be in the nearest others."""
    others = nearest_views(scene.camera.camera_to_world, view, count)
    pixels = strong_corners(scene, view, POINTS) + 0.5
    points = along_ray(scene.camera, view, pixels, scene.near_far[view], 64)
    camera = Camera(*(leaf[None, others] for leaf in scene.camera))
    lines, depth = (found[0].unflatten(1, (len(pixels), 64)) for found in project(camera, points.flatten(0, 1)[None]))
    height, width = scene.images.shape[-2:]
    columns = 2 if count < 4 else 3
    tile = PAGE_WIDTH_PX / columns
    rows = -(-(1 + len(others)) // columns)
    figure = new_figure(PAGE_WIDTH_PX, rows * (tile * height / width + 18))
    for place, number in enumerate([view, *others]):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(to_uint8(2 * scene.images[number] - 1), extent=(0, width, height, 0))
        axes.set_title(f"view {number}", size=TEXT_PT, color=INK, loc="left", pad=3)
        axes.set_axis_off()
        for point, pixel in enumerate(pixels):
            colour = COLOURS[point % len(COLOURS)]
            if place == 0:
                axes.plot(*pixel, "o", markersize=7, markerfacecolor="none", color=colour, markeredgewidth=1.6)
                continue
            line = lines[place - 1, point][depth[place - 1, point] > 0]
            axes.plot(*line.T, color=colour, linewidth=1.2)
            axes.plot(*line[:1].T, "o", *line[-1:].T, "s", markersize=3.5, color=colour)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
    figure.subplots_adjust(0, 0, 1, 0.96, 0.03, 0.08)
    return figure


def frusta(scene: PosedImages) -> Figure:
    """All cameras in the world, from two sides."""
    pose = scene.camera.camera_to_world
    height, width = scene.images.shape[-2:]
    middle = closest_to_sights(pose)
    shown = torch.linspace(0, len(pose) - 1, min(len(pose), MAX_FRUSTA)).round().long().unique()
    cameras = Camera(*(leaf[None, shown] for leaf in scene.camera))
    size = torch.tensor([float(width), float(height)]).expand(1, len(shown), 2)
    spread = float((pose[:, :3, 3] - pose[:, :3, 3].mean(0)).norm(dim=-1).amax())
    near = float(scene.near_far[:, 0].median())
    corners = frustum(cameras, size, min(near, 0.25 * spread) if spread > 0 else near)[0]
    figure = new_figure(PAGE_WIDTH_PX, 460)
    for place, (elevation, azimuth) in enumerate(((20, -60), (88, -90))):
        axes = figure.add_subplot(1, 2, place + 1, projection="3d", computed_zorder=False)
        for row, number in enumerate(shown.tolist()):
            colour, strength = (COLOURS[0], 1.6) if number == 0 else (INK, 0.6)
            centre, *image = corners[row]
            for one, other in zip(image, image[1:] + image[:1], strict=True):
                axes.plot(*torch.stack([centre, one, other]).T, color=colour, linewidth=strength)
            reach = 1.2 * (pose[number, :3, 2] @ (middle - centre)).abs().minimum(scene.near_far[number, 1])
            sight = torch.stack([centre, centre + reach * pose[number, :3, 2]])
            axes.plot(*sight.T, color=colour, linewidth=0.3 * strength, alpha=0.5)
        axes.plot(*middle[:, None], "x", color=COLOURS[3], markersize=9, markeredgewidth=2)
        axes.set(xlabel="x", ylabel="y", zlabel="z")
        axes.set_facecolor("none")
        axes.tick_params(labelsize=TEXT_PT, colors=INK)
        axes.set_aspect("equal")
        axes.set_proj_type("ortho")
        axes.view_init(elevation, azimuth)
    figure.subplots_adjust(0, 0.02, 1, 1, 0, 0)
    return figure


def distances(scene: PosedImages) -> Figure:
    """Histograms of near, far, and the camera's distance from the place that is looked at."""
    apart = (scene.camera.camera_to_world[:, :3, 3] - closest_to_sights(scene.camera.camera_to_world)).norm(dim=-1)
    found = {"near": scene.near_far[:, 0], "far": scene.near_far[:, 1], "to the place looked at": apart}
    edges = torch.linspace(0, 1.05 * float(torch.cat(list(found.values())).amax()), 41)
    figure = new_figure(PAGE_WIDTH_PX, 240)
    axes = quiet(figure.add_axes((0.06, 0.14, 0.92, 0.72)))
    for colour, (name, values) in zip(COLOURS, found.items(), strict=False):
        axes.hist(values.numpy(), bins=edges.numpy(), color=colour, alpha=0.7, label=name)
    axes.set(xlabel="distance", ylabel="views")
    legend(axes)
    return figure


def closest_to_sights(pose: Float[Tensor, "views 4 4"]) -> Float[Tensor, " 3"]:
    """The place with the least sum of squared distances from all lines of sight; of parallel ones, nearest to the mean.

    Each line `c + t z` keeps the part `I − z zᵀ` of a distance.
    """
    z, centre = pose[:, :3, 2].double(), pose[:, :3, 3].double()
    keep = torch.eye(3, dtype=z.dtype) - z[:, :, None] * z[:, None]
    start = centre.mean(0)
    wanted = (keep @ (centre - start)[..., None]).sum(0)
    return (start + (torch.linalg.pinv(keep.sum(0), rtol=1e-6) @ wanted)[:, 0]).to(pose)
