"""What is rendered: triangles with materials, and where they are put."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from goembed_core.errors import UserError
from jaxtyping import Float, Int, UInt8

MAX_FACES = 20_000_000  # more is taken for a damaged file
Y_UP_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
Opacity = Literal["opaque", "mask", "blend"]


class Material(NamedTuple):
    """What the faces of a material look like, in the values of the display (sRGB)."""

    colour: Float[np.ndarray, " 4"]  # a factor of the texture's, with opacity, in [0, 1]
    texture: UInt8[np.ndarray, "height width 4"] | None = None  # wraps; its first row is v = 1
    opacity: Opacity = "opaque"  # what becomes of the texture's alpha: nothing, a threshold, transparency
    cutoff: float = 0.5  # of `mask`


class Mesh(NamedTuple):
    """A surface of triangles that are seen from both sides, whatever their winding."""

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    uv: Float[np.ndarray, "vertices 2"]  # v up; of the texture, where its material has one
    colours: Float[np.ndarray, "vertices 4"]  # a further factor, with opacity, in [0, 1]
    material: Int[np.ndarray, " faces"]  # which one of `materials`
    materials: tuple[Material, ...]


class Placing(NamedTuple):
    """How a mesh came into the unit ball: `scale (R x − centre)`."""

    centre: Float[np.ndarray, " 3"]
    scale: float


def require_sound(mesh: Mesh, where: str) -> None:
    """Refuse what cannot be rendered.

    **Raises:** UserError, which names `where`.
    """
    count = len(mesh.vertices)
    if not len(mesh.faces):
        raise UserError(f"{where}: has no faces; give a mesh, not points or lines")
    if len(mesh.faces) > MAX_FACES:
        raise UserError(f"{where}: has {len(mesh.faces)} faces, more than {MAX_FACES}; simplify it")
    if mesh.faces.min() < 0 or mesh.faces.max() >= count:
        raise UserError(f"{where}: a face names vertex {int(mesh.faces.max())} of {count}; export it again")
    for name, values in (("positions", mesh.vertices), ("texture coordinates", mesh.uv), ("colours", mesh.colours)):
        bad = ~np.isfinite(values[mesh.faces]).all((1, 2))
        if bad.any():
            raise UserError(f"{where}: {int(bad.sum())} of {len(bad)} faces have {name} that are not finite; repair it")
    if mesh.material.min() < 0 or mesh.material.max() >= len(mesh.materials):
        raise UserError(
            f"{where}: a face names material {int(mesh.material.max())} of {len(mesh.materials)}; export it again"
        )


def place(mesh: Mesh, up: Literal["y", "z"], where: str) -> tuple[Mesh, Placing]:
    """The mesh with z up, the middle of its bounding box at the origin, and its farthest vertex at a distance of 1.

    **Arguments:**
    - `up`: the axis that is up in the mesh.

    **Raises:** UserError for one that has no extent.
    """
    vertices = np.asarray(mesh.vertices, np.float64)
    if up == "y":
        vertices = vertices @ Y_UP_TO_Z_UP.T
    used = vertices[np.unique(mesh.faces)]
    centre = (used.min(0) + used.max(0)) / 2
    radius = np.linalg.norm(used - centre, axis=1).max()
    if not np.isfinite(1 / radius if radius else np.inf):
        raise UserError(f"{where}: all of its faces lie in one point; give a mesh that has an extent")
    return mesh._replace(vertices=(vertices - centre) / radius), Placing(centre, float(1 / radius))


def joined(parts: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    vertices = np.cumsum([0, *(len(part.vertices) for part in parts)])
    materials = np.cumsum([0, *(len(part.materials) for part in parts)])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + first for part, first in zip(parts, vertices, strict=False)]),
        np.concatenate([part.uv for part in parts]),
        np.concatenate([part.colours for part in parts]),
        np.concatenate([part.material + first for part, first in zip(parts, materials, strict=False)]),
        tuple(material for part in parts for material in part.materials),
    )
