"""A field as things that other programs open: coloured points, and a mesh with coloured corners."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from goembed_core.errors import UserError
from jaxtyping import Float, UInt8
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn import functional as F

from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera
from goembed_nerf_renderer.fields import ProposedField, RadianceField
from goembed_nerf_renderer.renderer import VolumeRenderer
from goembed_nerf_renderer.viewing import cloud

CHUNK = 2**16  # points of the lattice looked at together


def as_points(
    renderer: VolumeRenderer,
    signal: RadianceField | ProposedField,
    views: Camera,
    height: int,
    width: int,
    min_opacity: float,
) -> trimesh.PointCloud:
    """Where the light of the views' pixels is stopped on average, with the colour that is seen there.

    **Arguments:**
    - `signal`: a batch of one.
    - `views`: leaves `(V, ...)`; at most 16 of them are used.
    - `min_opacity`: pixels that stop less light make no point.

    **Raises:** UserError where there is no point.
    """
    points, colours = cloud(renderer, signal, views, height, width, min_opacity)
    return trimesh.PointCloud(points.float().numpy(), colors=_bytes(colours))


@torch.no_grad()
def as_mesh(field: RadianceField, box: FieldBox, cells: int, min_opacity: float) -> trimesh.Trimesh:
    """The surface within which a cell of the box stops `min_opacity` of the light, by marching cubes.

    The colour of a corner is the field's, seen from straight above it.

    **Arguments:**
    - `field`: a batch of one, on the box's device.
    - `box`: where the field is, in the world or in a perspective.  Of a field without cells of its own, a box of as
      many as the lattice has.
    - `cells`: of the lattice, along the box's longest side.

    **Raises:** UserError where there is no such surface.
    """
    counts = tuple(max(2, round(n * cells / max(box.cells))) for n in box.cells)
    stopped = []
    for part in box.lattice(counts).split(CHUNK):
        depth = field(part[None], None).density[0].float() * box.cell_length(part)
        stopped.append(-torch.expm1(-depth))
    volume = torch.cat(stopped).reshape([n + 1 for n in counts])
    if not volume.amax() > min_opacity:
        raise UserError(
            f"no cell of the field stops {min_opacity} of the light (the most is {volume.amax():.3g}): no mesh to "
            f"export; ask for a lower opacity"
        )
    closed = np.pad(volume.cpu().numpy(), 1)  # what reaches the box's sides ends there
    corners, faces, _, _ = marching_cubes(closed, min_opacity, gradient_direction="ascent")  # corners counter-clockwise
    unit = torch.from_numpy((corners - 1) / np.array(counts)).to(box.low).clamp(0, 1)
    vertices = box.world(unit)
    mesh = trimesh.Trimesh(vertices.cpu().numpy(), faces, process=False)
    outwards = F.normalize(torch.from_numpy(np.array(mesh.vertex_normals)).to(vertices), dim=1)
    colours = [
        field(p[None], -d[None]).colour[0] for p, d in zip(vertices.split(CHUNK), outwards.split(CHUNK), strict=True)
    ]
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=_bytes(torch.cat(colours)))
    return mesh


def _bytes(colour: Float[Tensor, "n 3"]) -> UInt8[np.ndarray, "n 4"]:
    """Colours in [0, 1] as opaque RGBA bytes."""
    levels = (colour.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.concatenate([levels, np.full((len(levels), 1), 255, np.uint8)], 1)
