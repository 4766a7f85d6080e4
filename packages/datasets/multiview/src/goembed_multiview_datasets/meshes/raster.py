"""Scan conversion: which faces lie on which samples of an image, and which one is seen.

Everything is exact in the sense of a ray through each sample: a face lies on a sample if the sample is within the
projected triangle, shared edges belong to one of their faces, and depth is that of the face's plane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

NOTHING = -1


class Projected(NamedTuple):
    """Faces before a camera, in samples of its image; those seen edge-on are left out."""

    number: Int[np.ndarray, " faces"]  # which face of the mesh each is
    corners: Float[np.ndarray, "faces 3 2"]
    weights: Float[np.ndarray, "faces 3 3"]  # rows: each corner's share of 1 / depth is linear in (column, row, 1)
    nearest: Float[np.ndarray, " faces"]  # 1 / depth of the nearest corner
    farthest: Float[np.ndarray, " faces"]


class Fragments(NamedTuple):
    """Faces on samples, in the order of the faces."""

    face: Int[np.ndarray, " n"]  # a row of `Projected`
    sample: Int[np.ndarray, " n"]  # counted along the rows
    inverse_depth: Float[np.ndarray, " n"]  # along z


def project_faces(
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    camera_to_world: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
) -> Projected:
    """The faces as a camera sees them, all of which have to lie before it.

    With a corner's `h = K Rᵀ (x − c)`, a sample `s = (column, row, 1)` sees `s / (1 / depth) = H b`, where `H` has the
    corners as its columns and `b` are barycentric coordinates: `b / depth = H⁻¹ s`, and their sum is `1 / depth`.
    """
    seen = (vertices - camera_to_world[:3, 3]) @ camera_to_world[:3, :3] @ intrinsics.T
    pixels = seen[:, :2] / seen[:, 2:]
    corners, h = pixels[faces], seen[faces]
    cofactors = np.cross(h[:, [1, 2, 0]], h[:, [2, 0, 1]])
    volume = (h[:, 0] * cofactors[:, 0]).sum(-1)
    number = np.flatnonzero(np.abs(volume) > 1e-12 * np.abs(h).max((1, 2)) ** 3)
    inverse = 1 / h[number, :, 2]
    weights = cofactors[number] / volume[number, None, None]
    return Projected(number, corners[number], weights, inverse.max(1), inverse.min(1))


def scan(faces: Projected, width: int, rows: tuple[int, int]) -> Fragments:
    """The faces on each sample of some rows, whose centres lie at whole numbers and a half.

    On each row a triangle is the span between its two edges there.  An edge is always followed from its upper end, so
    that two faces that share it meet without gap and overlap.
    """
    first, last = rows
    upper, lower = faces.corners, faces.corners[:, [1, 2, 0]]
    turned = upper[..., 1:] > lower[..., 1:]
    upper, lower = np.where(turned, lower, upper), np.where(turned, upper, lower)
    begin, end = _first_centre(upper[..., 1]), _first_centre(lower[..., 1])  # an edge is on rows [begin, end)
    with np.errstate(divide="ignore", invalid="ignore"):  # of level edges, which are on no row
        slope = (lower[..., 0] - upper[..., 0]) / (lower[..., 1] - upper[..., 1])
    top, bottom = begin.min(1).clip(first, last), end.max(1).clip(first, last)
    span, row = _expand(top, bottom)
    centre = row + 0.5
    left, right = np.full(len(row), np.inf), np.full(len(row), -np.inf)
    for edge in range(3):
        across = upper[span, edge, 0] + (centre - upper[span, edge, 1]) * slope[span, edge]
        there = (begin[span, edge] <= row) & (row < end[span, edge])
        left = np.where(there & (across < left), across, left)
        right = np.where(there & (across > right), across, right)
    start, stop = (_first_centre(side.clip(0, width)) for side in (left, right))
    line, column = _expand(start, stop)
    plane = faces.weights.sum(1)[span]
    base = plane[:, 1] * centre + plane[:, 2] + 0.5 * plane[:, 0]
    inverse = base[line] + plane[line, 0] * column
    face = span[line]
    np.clip(inverse, faces.farthest[face], faces.nearest[face], out=inverse)  # slivers are steep
    return Fragments(face, (row[line] - first) * width + column, inverse)


def nearest(fragments: Fragments, count: int) -> Int[np.ndarray, " count"]:
    """Of each of `count` samples the fragment before all others, or `NOTHING`; of equal ones the first face's."""
    best = np.zeros(count)
    np.maximum.at(best, fragments.sample, fragments.inverse_depth)
    won = np.flatnonzero(fragments.inverse_depth == best[fragments.sample])[::-1]
    winner = np.full(count, NOTHING)
    winner[fragments.sample[won]] = won
    return winner


def by_depth(fragments: Fragments) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The fragments of each sample from the nearest on: their order, and how many lie before each of them."""
    order = np.lexsort((fragments.face, -fragments.inverse_depth, fragments.sample))
    sample = fragments.sample[order]
    begins = np.flatnonzero(np.r_[True, sample[1:] != sample[:-1]]) if len(sample) else np.empty(0, np.int64)
    rank = np.arange(len(sample)) - np.repeat(begins, np.diff(np.r_[begins, len(sample)]))
    return order, rank


def barycentric(faces: Projected, fragments: Fragments, width: int, first_row: int) -> Float[np.ndarray, "n 3"]:
    """The perspective-correct shares of the corners where each fragment lies."""
    row, column = np.divmod(fragments.sample, width)
    weights = faces.weights[fragments.face]
    shares = weights[..., 0] * (column + 0.5)[:, None] + weights[..., 1] * (row + first_row + 0.5)[:, None]
    shares = (shares + weights[..., 2]).clip(0, None)
    return shares / np.maximum(shares.sum(1, keepdims=True), np.finfo(np.float64).tiny)


def _first_centre(edge: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
    """The first sample whose centre is not before a place."""
    return np.ceil(edge - 0.5).astype(np.int64)


def _expand(start: Int[np.ndarray, " n"], stop: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """All whole numbers of each range `[start, stop)`: which range, and the number."""
    counts = (stop - start).clip(0, None)
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts - start, counts)
