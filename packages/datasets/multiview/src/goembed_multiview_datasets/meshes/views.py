"""The renderer: colour, opacity, depth and normals of a mesh from a camera, without display or graphics library."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from goembed_multiview_datasets.meshes.model import Mesh
from goembed_multiview_datasets.meshes.raster import (
    NOTHING,
    Fragments,
    Projected,
    barycentric,
    by_depth,
    nearest,
    project_faces,
    scan,
)
from goembed_multiview_datasets.meshes.textures import Textures, look_up, make_textures

Shading = Literal["soft", "unlit"]
LIGHT = np.array([0.40, 0.25, 0.88]) / np.linalg.norm([0.40, 0.25, 0.88])  # unlike on the sides of a box
AMBIENT = 0.55  # what a face along the light still has
BAND_SAMPLES = 2**20  # at a time
OPAQUE = 0.5  # depth and normal are those of the nearest surface of at least this opacity


class Model(NamedTuple):
    """A mesh, and what is the same in all of its views."""

    mesh: Mesh
    textures: Textures
    normals: Float[np.ndarray, "faces 3"]  # unit vectors
    light: Float[np.ndarray, " faces"]  # a factor of the colour
    solid: Bool[np.ndarray, " faces"]  # nothing is seen through it
    factor: Float[np.ndarray, "materials 4"]
    cutoff: Float[np.ndarray, " materials"]  # of `mask`, else below 0
    uv_area: Float[np.ndarray, " faces"]
    plain: bool  # no vertex has a colour


class RenderedView(NamedTuple):
    """What a camera sees."""

    rgba: Float[np.ndarray, "height width 4"]  # in [0, 1]; colours multiplied by opacity
    depth: Float[np.ndarray, "height width"]  # along z, at the centre of each pixel; 0 where there is nothing
    normal: Float[np.ndarray, "height width 3"]  # of the world, towards the camera; 0 where there is nothing


def make_model(mesh: Mesh, shading: Shading) -> Model:
    """Prepare a mesh for rendering.

    **Arguments:**
    - `shading`: `unlit`, or `soft`: `0.55 + 0.45 |n · l|` with one light that is fixed in the world, so that a place
      of the surface looks alike from everywhere.
    """
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    light = AMBIENT + (1 - AMBIENT) * np.abs(normals @ LIGHT) if shading == "soft" else np.ones(len(normals))
    see_through = np.array([m.opacity != "opaque" or m.colour[3] < 1 for m in mesh.materials])
    faint = (mesh.colours[mesh.faces, 3] < 1).any(1)
    side = np.diff(mesh.uv[mesh.faces].astype(np.float64), axis=1)
    return Model(
        mesh,
        make_textures(mesh.materials),
        normals,
        light,
        ~(see_through[mesh.material] | faint),
        np.array([m.colour for m in mesh.materials], np.float32),
        np.array([m.cutoff if m.opacity == "mask" else -1.0 for m in mesh.materials]),
        0.5 * np.abs(side[:, 0, 0] * side[:, 1, 1] - side[:, 0, 1] * side[:, 1, 0]),
        bool((mesh.colours == 1).all()),
    )


def render(
    model: Model,
    camera_to_world: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: int,
    samples: int,
) -> RenderedView:
    """A square image of `size` pixels, each the mean of `samples` x `samples` rays; all has to lie before the camera.

    **Arguments:**
    - `samples`: odd, so that one of them is the pixel's centre, of which depth and normal are.
    """
    fine = np.diag([samples, samples, 1.0]) @ intrinsics
    faces = project_faces(model.mesh.vertices, model.mesh.faces, camera_to_world, fine)
    rows = max(1, BAND_SAMPLES // (size * samples * samples))
    bands = [
        _band(model, faces, camera_to_world, size, samples, (row, min(row + rows, size)))
        for row in range(0, size, rows)
    ]
    return RenderedView(*(np.concatenate(parts) for parts in zip(*bands, strict=True)))


def _band(
    model: Model, faces: Projected, pose: np.ndarray, size: int, samples: int, rows: tuple[int, int]
) -> RenderedView:
    """Some rows of pixels of an image."""
    width, first, last = size * samples, rows[0] * samples, rows[1] * samples
    count = (last - first) * width
    found = scan(faces, width, (first, last))
    solid = model.solid[faces.number[found.face]]
    opaque = _take(found, np.flatnonzero(solid))
    winner = nearest(opaque, count)
    hit = np.flatnonzero(winner != NOTHING)
    seen = _take(opaque, winner[hit])
    front = np.zeros(count)
    front[hit] = seen.inverse_depth
    face = np.full(count, NOTHING)
    face[hit] = faces.number[seen.face]
    rgba = np.zeros((count, 4), np.float32)
    rgba[hit] = _colours(model, faces, seen, width, first)
    sheer = np.flatnonzero(~solid)
    sheer = _take(found, sheer[found.inverse_depth[sheer] > front[found.sample[sheer]]])
    if len(sheer.face):
        rgba, front, face = _compose(model, faces, sheer, rgba, front, face, width, first)
    height = rows[1] - rows[0]
    pixels = rgba.reshape(height, samples, size, samples, 4).mean((1, 3))
    middle = (slice(None), samples // 2, slice(None), samples // 2)
    front, face = (values.reshape(height, samples, size, samples)[middle] for values in (front, face))
    there = face != NOTHING
    depth = np.divide(1, front, out=np.zeros_like(front), where=there)
    towards = pose[:3, 3] - model.mesh.vertices[model.mesh.faces[face, 0]]
    normal = model.normals[face]
    normal = np.where((normal * towards).sum(-1, keepdims=True) < 0, -normal, normal) * there[..., None]
    return RenderedView(pixels, depth, normal)


def _compose(
    model: Model,
    faces: Projected,
    sheer: Fragments,
    behind: Float[np.ndarray, "samples 4"],
    front: Float[np.ndarray, " samples"],
    face: Int[np.ndarray, " samples"],
    width: int,
    first: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay transparent fragments over what is solid, from the nearest on: `C = Σ cᵢ Πⱼ (1 − αⱼ)`, `j` before `i`."""
    colours = _colours(model, faces, sheer, width, first)
    order, rank = by_depth(sheer)
    rgba, through = np.zeros_like(behind), np.ones(len(behind), np.float32)
    front, face = front.copy(), face.copy()
    decided = np.zeros(len(behind), bool)
    for layer in range(int(rank.max()) + 1):
        part = order[rank == layer]
        sample, colour = sheer.sample[part], colours[part]
        rgba[sample] += through[sample, None] * colour
        through[sample] *= 1 - colour[:, 3]
        dense = (colour[:, 3] >= OPAQUE) & ~decided[sample]
        front[sample[dense]] = sheer.inverse_depth[part][dense]
        face[sample[dense]] = faces.number[sheer.face[part][dense]]
        decided[sample[dense]] = True
    return rgba + through[:, None] * behind, front, face


def _colours(
    model: Model, faces: Projected, fragments: Fragments, width: int, first_row: int
) -> Float[np.ndarray, "n 4"]:
    """Colour times opacity, and opacity."""
    mesh, number = model.mesh, faces.number[fragments.face]
    material, corners = mesh.material[number], mesh.faces[number]
    shares = barycentric(faces, fragments, width, first_row)
    colour = model.factor[material]
    if not model.plain:
        colour = colour * np.einsum("nk,nkc->nc", shares, mesh.colours[corners]).astype(np.float32)
    colour[:, :3] *= (model.light[number].astype(np.float32) * colour[:, 3])[:, None]
    textured = np.flatnonzero(model.textures.levels[material] > 0)
    if len(textured):
        uv = np.einsum("nk,nkc->nc", shares[textured], mesh.uv[corners[textured]])
        level = _levels(model, faces)[fragments.face[textured]]
        colour[textured] *= look_up(model.textures, material[textured], level, uv)
    return _cut(colour, model.cutoff[material])


def _levels(model: Model, faces: Projected) -> Int[np.ndarray, " faces"]:
    """Which version of its texture a face shows: the coarsest that has at least a texel for each sample."""
    textures, material = model.textures, model.mesh.material[faces.number]
    side = np.diff(faces.corners, axis=1)
    samples = 0.5 * np.abs(side[:, 0, 0] * side[:, 1, 1] - side[:, 0, 1] * side[:, 1, 0])
    texels = model.uv_area[faces.number] * textures.width[material, 0] * textures.height[material, 0]
    tiny = np.finfo(np.float64).tiny
    level = np.floor(0.5 * np.log2(np.maximum(texels, tiny) / np.maximum(samples, tiny)))
    return level.clip(0, np.maximum(textures.levels[material] - 1, 0)).astype(np.int64)


def _cut(colour: Float[np.ndarray, "n 4"], cutoff: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 4"]:
    """Where there is a cutoff, what is below it is nothing, and what is above is opaque."""
    cut = np.flatnonzero(cutoff >= 0)
    if len(cut):
        alpha = colour[cut, 3:]
        kept = alpha >= cutoff[cut, None]
        colour[cut] = np.where(kept, colour[cut] / np.maximum(alpha, np.finfo(np.float32).tiny), 0)
    return colour


def _take(fragments: Fragments, which: Int[np.ndarray, " n"]) -> Fragments:
    return Fragments(*(values[which] for values in fragments))
