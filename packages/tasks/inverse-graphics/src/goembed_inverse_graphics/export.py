"""A sampled scene as things that other programs open: coloured points, and a mesh with coloured corners."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera, camera_rays, whole_image
from goembed_nerf_renderer.config import SceneBox
from goembed_nerf_renderer.fields import RadianceField
from skimage.measure import marching_cubes
from torch import Tensor

from goembed_inverse_graphics.solve import Solver

CHUNK = 2**16  # points of the lattice looked at together


@torch.no_grad()
def as_points(
    solver: Solver, scene: RadianceField, cameras: Camera, size: tuple[int, int], min_opacity: float
) -> trimesh.PointCloud:
    """Where the light of the cameras' pixels is stopped on average, with the colour that is seen there.

    **Arguments:**
    - `scene`: a batch of one.
    - `cameras`: leaves `(1, V, ...)`.
    - `min_opacity`: pixels that stop less light make no point.
    """
    params = whole_image(cameras, *size)
    seen, rays = solver.look(scene, params), camera_rays(params.camera, params.pixels)
    solid = seen.opacity > min_opacity
    if not solid.any():
        raise UserError(
            f"no pixel of {solid.shape[1]} views stops opacity={min_opacity} of the light (the most is "
            f"{seen.opacity.max():.3g}): nothing to export; ask for less"
        )
    distance = (seen.depth / seen.opacity.clamp(min=1e-6))[..., None]
    places = (rays.origins + distance * rays.directions)[solid]
    return trimesh.PointCloud(places.float().cpu().numpy(), colors=_bytes(seen.colour.movedim(2, -1)[solid]))


@torch.no_grad()
def as_mesh(scene: RadianceField, box: SceneBox, cells: int, min_opacity: float) -> trimesh.Trimesh:
    """The surface within which a cell of the lattice stops `min_opacity` of the light, by marching cubes.

    **Arguments:**
    - `scene`: a batch of one.
    - `cells`: of the lattice, along the box's longest side.

    **Raises:** UserError where there is no such surface.
    """
    low, high = torch.tensor(box.low), torch.tensor(box.high)
    side = (high - low).max().item() / cells
    counts = tuple(max(2, round(length / side)) for length in (high - low).tolist())
    ticks = [torch.linspace(a, b, n + 1) for a, b, n in zip(box.low, box.high, counts, strict=True)]
    lattice = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)
    density = torch.cat([scene(part[None], None).density[0].float().cpu() for part in lattice.split(CHUNK)])
    stopped = -torch.expm1(-density * side).reshape([n + 1 for n in counts])
    if not stopped.amax() > min_opacity:
        raise UserError(
            f"no cell of the scene stops opacity={min_opacity} of the light (the most is {stopped.amax():.3g}): no "
            f"mesh to export; ask for less, or for fewer mesh_cells, which are longer"
        )
    closed = np.pad(stopped.numpy(), 1)  # what reaches the box's sides ends there
    corners, faces, _, _ = marching_cubes(closed, min_opacity, gradient_direction="ascent")
    unit = torch.from_numpy((corners - 1) / np.array(counts)).float().clamp(0, 1)
    vertices = low + unit * (high - low)
    colours = torch.cat([scene(part[None], None).colour[0] for part in vertices.split(CHUNK)])
    mesh = trimesh.Trimesh(vertices.numpy(), faces, process=False)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=_bytes(colours))
    return mesh


def _bytes(colour: Tensor) -> np.ndarray:
    """Colours in [0, 1], `(n, 3)`, as opaque RGBA bytes."""
    levels = (colour.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.concatenate([levels, np.full((len(levels), 1), 255, np.uint8)], 1)
