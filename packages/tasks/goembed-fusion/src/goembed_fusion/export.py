"""Objects as things that other programs open: coloured points, and a mesh with coloured corners."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.config import SceneBox
from goembed_nerf_renderer.fields import RadianceField
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_nerf_renderer.viewing import cloud
from jaxtyping import Float
from skimage.measure import marching_cubes
from torch import Tensor

CHUNK = 2**16  # points of the lattice looked at together


def as_points(
    renderer: VolumeRenderer, field: RadianceField, views: Camera, size: int, min_opacity: float
) -> trimesh.PointCloud:
    """Where the light of some views' pixels is stopped on average, with the colour that is seen there.

    **Arguments:**
    - `field`: a batch of one.
    - `views`: leaves `(V, ...)`, of `size` pixels a side.

    **Raises:** UserError where there is no point.
    """
    found = cloud(renderer, field, views, size, size, min_opacity)
    return trimesh.PointCloud(found.points.numpy(), colors=_bytes(found.colours))


@torch.no_grad()
def as_mesh(field: RadianceField, box: SceneBox, cells: int, min_opacity: float) -> trimesh.Trimesh:
    """The surface within which a cell of a lattice stops `min_opacity` of the light, by marching cubes.

    **Arguments:**
    - `field`: a batch of one, whose colours depend on no direction.
    - `cells`: of the lattice, along the box's longest side.

    **Raises:** UserError where there is no such surface.
    """
    low, high = torch.tensor(box.low), torch.tensor(box.high)
    side = (high - low).max().item() / cells
    counts = tuple(max(2, round(length / side)) for length in (high - low).tolist())
    ticks = [torch.linspace(a, b, n + 1) for a, b, n in zip(box.low, box.high, counts, strict=True)]
    lattice = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)
    density = torch.cat([field(part[None], None).density[0].float().cpu() for part in lattice.split(CHUNK)])
    stopped = -torch.expm1(-density * side).reshape([n + 1 for n in counts])
    if not stopped.amax() > min_opacity:
        raise UserError(
            f"no cell of the object stops opacity={min_opacity} of the light (the most is {stopped.amax():.3g}): no "
            f"mesh to export; ask for less, or for fewer mesh_cells, which are longer"
        )
    closed = np.pad(stopped.numpy(), 1)  # what reaches the box's sides ends there
    corners, faces, _, _ = marching_cubes(closed, min_opacity, gradient_direction="ascent")
    unit = torch.from_numpy((corners - 1) / np.array(counts)).float().clamp(0, 1)
    vertices = low + unit * (high - low)
    colours = torch.cat([field(part[None], None).colour[0] for part in vertices.split(CHUNK)])
    mesh = trimesh.Trimesh(vertices.numpy(), faces, process=False)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=_bytes(colours))
    return mesh


def _bytes(colour: Float[Tensor, "n 3"]) -> np.ndarray:
    """Colours in [0, 1] as opaque RGBA bytes."""
    levels = (colour.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.concatenate([levels, np.full((len(levels), 1), 255, np.uint8)], 1)
