"""The renderer against slow and analytic ones: which face is seen, edges, transparency, textures, projection."""

import numpy as np
import pytest
import torch
from goembed_multiview_datasets.meshes.model import Material, Mesh
from goembed_multiview_datasets.meshes.raster import project_faces
from goembed_multiview_datasets.meshes.textures import look_up, make_textures
from goembed_multiview_datasets.meshes.views import BAND_SAMPLES, make_model, render
from goembed_nerf_renderer.cameras import Camera, look_at, project

SIZE = 24
K = np.array([[50.0, 0, 11.5], [0, 47.0, 12.5], [0, 0, 1]])


def mesh_of(vertices, faces, materials=None, material=None, uv=None, colours=None):
    count = len(vertices)
    return Mesh(
        np.asarray(vertices, np.float64),
        np.asarray(faces),
        np.zeros((count, 2)) if uv is None else np.asarray(uv, np.float64),
        np.ones((count, 4)) if colours is None else colours,
        np.zeros(len(faces), np.int64) if material is None else np.asarray(material),
        tuple(materials or [Material(np.ones(4))]),
    )


def pose_from(*position):
    position = torch.tensor(position, dtype=torch.float64)
    return look_at(position, torch.zeros(3, dtype=torch.float64), position.new_tensor([0.1, 0.2, 1.0])).numpy()


def soup(seed, count=60):
    draw = np.random.default_rng(seed)
    middle = draw.uniform(-0.6, 0.6, (count, 1, 3))
    return (middle + draw.uniform(-0.4, 0.4, (count, 3, 3))).reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


def trace(vertices, faces, pose, intrinsics, size, samples):
    """The depths at which each sample's ray meets each face `(size · samples, size · samples, faces)`: one by one."""
    side = size * samples
    depths = np.full((side, side, len(faces)), np.inf)
    for row in range(side):
        for column in range(side):
            place = np.array([(column + 0.5) / samples, (row + 0.5) / samples, 1])
            ray = pose[:3, :3] @ np.linalg.solve(intrinsics, place)
            for number, face in enumerate(faces):
                a, b, c = vertices[face]
                matrix = np.stack([ray, a - b, a - c], 1)
                depth, u, v = np.linalg.solve(matrix, a - pose[:3, 3])  # c + t r = a + u (b − a) + v (c − a)
                if depth > 0 and u >= 0 and v >= 0 and u + v <= 1:
                    depths[row, column, number] = depth
    return depths


def test_triangles_are_where_rays_meet_them():
    """Colours, opacity, depth and normals of crossing triangles, one of three rays a pixel's centre."""
    vertices, faces = soup(0, 12)
    colours = np.random.default_rng(1).uniform(0.1, 1, (12, 4))
    colours[:, 3] = 1
    model = make_model(mesh_of(vertices, faces, colours=colours.repeat(3, 0)), "unlit")
    pose = pose_from(2.0, -2.5, 1.5)
    size, samples = 10, 3
    intrinsics = np.array([[20.0, 0, 5], [0, 20.0, 5], [0, 0, 1]])
    seen = render(model, pose, intrinsics, size, samples)
    depths = trace(vertices, faces, pose, intrinsics, size, samples)
    first = depths.argmin(-1)
    there = np.isfinite(depths.min(-1))
    rgba = np.where(there[..., None], colours[first], 0).reshape(size, samples, size, samples, 4).mean((1, 3))
    assert 0.1 < there.mean() < 0.9
    assert np.abs(seen.rgba - rgba).max() < 1e-6
    middle = np.where(there, depths.min(-1), 0)[1::3, 1::3]
    assert np.abs(seen.depth - middle).max() < 1e-9
    a, b, c = (vertices[faces[first[1::3, 1::3], k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal *= -np.sign((normal * (a - pose[:3, 3])).sum(-1, keepdims=True)) * there[1::3, 1::3, None]
    assert np.abs(seen.normal - normal).max() < 1e-9


def test_vertices_lie_where_the_cameras_project_them():
    vertices, faces = soup(2)
    for seed in range(3):
        pose = pose_from(*(np.random.default_rng(seed).normal(size=3) * 1.2 + 2))
        found = project_faces(vertices, faces, pose, K)
        camera = Camera(torch.from_numpy(pose)[None, None], torch.from_numpy(K)[None, None])
        pixels, depth = project(camera, torch.from_numpy(vertices)[None])
        assert len(found.number) == len(faces)
        assert np.abs(found.corners - pixels[0, 0].numpy()[faces]).max() < 1e-9
        assert np.allclose(1 / found.nearest, depth[0, 0].numpy()[faces].min(1))


def test_a_pixel_is_covered_by_the_part_that_it_is_covered():
    """The area of a triangle is the sum of its opacities."""
    vertices = 0.6 * np.array([[-0.9, -0.5, 0], [0.8, -0.4, 0.1], [0.1, 0.7, -0.2]])
    pose = pose_from(0.5, -1.0, 3.5)
    model = make_model(mesh_of(vertices, [[0, 1, 2]]), "unlit")
    a, b, c = project_faces(vertices, np.array([[0, 1, 2]]), pose, K).corners[0]
    area = 0.5 * abs(np.linalg.det(np.stack([b - a, c - a])))
    errors = [abs(render(model, pose, K, SIZE, samples).rgba[..., 3].sum() / area - 1) for samples in (1, 5, 15)]
    assert errors[1] < 0.02 and errors[2] < 0.004
    alpha = render(model, pose, K, SIZE, 15).rgba[..., 3]
    row, column = np.indices(alpha.shape) + 0.5
    centre = np.array([(alpha * column).sum(), (alpha * row).sum()]) / alpha.sum()
    assert np.abs(centre - (a + b + c) / 3).max() < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_faces_meet_without_gap_or_overlap(seed):
    """A see-through sheet of many small faces shows none of its edges, whatever way it lies."""
    draw = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 12)] * 2), -1).reshape(-1, 2)
    grid += draw.uniform(-0.05, 0.05, grid.shape)
    sheet = np.c_[grid, 0.1 * draw.normal(size=len(grid))]
    first = (np.arange(11)[:, None] * 12 + np.arange(11)).reshape(-1)
    faces = np.concatenate([np.stack([first, first + 1, first + 13], 1), np.stack([first, first + 13, first + 12], 1)])
    model = make_model(mesh_of(sheet, faces, [Material(np.array([1, 0.5, 0.2, 0.5]))]), "unlit")
    close = np.array([[150.0, 0, 12], [0, 150.0, 12], [0, 0, 1]])
    seen = render(model, pose_from(0.3 * seed, 0.2, 2.0), close, SIZE, 5)
    assert np.array_equal(np.unique(seen.rgba[..., 3]), [0.5])


def test_panes_are_laid_over_each_other_from_the_nearest_on():
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    colours = np.array([[0.9, 0.2, 0.1, 0.3], [0.1, 0.8, 0.2, 0.6], [0.2, 0.3, 0.9, 1.0], [1, 1, 1, 0.5]])
    heights = [0.5, 0.2, 0.0, -0.3]  # the last one is hidden by the third
    order = [2, 0, 3, 1]  # as the mesh has them
    vertices = np.concatenate([np.c_[square, np.full(4, heights[pane])] for pane in order])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    faces = np.concatenate([faces + 4 * place for place in range(4)])
    mesh = mesh_of(vertices, faces, [Material(colours[pane]) for pane in order], np.arange(4).repeat(2))
    seen = render(make_model(mesh, "unlit"), pose_from(0.01, 0.0, 4.0), K, SIZE, 3)
    expected, through = np.zeros(3), 1.0
    for colour in colours[:3]:
        expected += through * colour[3] * colour[:3]
        through *= 1 - colour[3]
    middle = (SIZE // 2, SIZE // 2)
    assert np.allclose(seen.rgba[middle], [*expected, 1], atol=1e-6)
    assert np.isclose(seen.depth[middle], 3.8, atol=1e-2)  # the second pane is the first that hides half
    upside_down = render(make_model(mesh, "unlit"), pose_from(0.01, 0.0, -4.0), K, SIZE, 3)
    assert np.allclose(upside_down.rgba[middle], [*(0.5 + 0.5 * colours[2, :3]), 1], atol=1e-6)


def textured_square(uv_scale, texture, tilt=1.0):
    vertices = np.array([[-1, -1, -tilt], [1, -1, -tilt], [1, 1, tilt], [-1, 1, tilt]]) * 0.6
    uv = uv_scale * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    material = Material(np.array([1.0, 0.5, 1.0, 1.0]), texture)
    return mesh_of(vertices, [[0, 1, 2], [0, 2, 3]], [material], uv=uv)


@pytest.mark.parametrize("repeats", [1, 2])
def test_textures_lie_in_perspective_and_wrap(repeats):
    """A texture whose red is u and green is v, on a square that leans away: at each pixel what its ray meets."""
    axis = np.uint8(np.round((np.arange(128) + 0.5) / 128 * 255))
    red, green = np.meshgrid(axis, axis[::-1])  # v up
    texture = np.dstack([red, green, np.full_like(red, 100), np.full_like(red, 7)])
    mesh, pose = textured_square(repeats, texture), pose_from(0.2, -2.0, 2.0)
    seen = render(make_model(mesh, "unlit"), pose, K, SIZE, 3)
    rays = np.stack(np.broadcast_arrays(*[a + 0.5 for a in np.indices((SIZE, SIZE))[::-1]], 1.0), -1)
    rays = rays @ np.linalg.inv(K).T @ pose[:3, :3].T
    normal = np.array([0, -1, 1])
    depth = -(pose[:3, 3] @ normal) / (rays @ normal)
    place = ((pose[:3, 3] + depth[..., None] * rays)[..., :2] / 0.6 + 1) / 2 * repeats
    inside = ((place > 0) & (place < repeats)).all(-1)
    smooth = inside & (np.abs(place - np.round(place)) > 0.12).all(-1)  # away from where the texture begins anew
    assert smooth.sum() > 30
    expected = np.concatenate([place % 1, np.full((*place.shape[:2], 1), 100 / 255)], -1) * [1, 0.5, 1]
    assert np.abs(seen.rgba[..., :3] - expected)[smooth].max() < 0.02
    assert (seen.rgba[smooth, 3] == 1).all()  # the alpha of what is opaque counts for nothing


def test_a_texture_that_is_far_too_fine_is_its_mean():
    board = np.indices((256, 256)).sum(0) % 2
    texture = np.dstack([255 * board] * 3 + [255 * np.ones_like(board)]).astype(np.uint8)
    seen = render(make_model(textured_square(1, texture, 0.3), "unlit"), pose_from(0.2, -0.5, 3.0), K, SIZE, 3)
    inner = seen.rgba[seen.rgba[..., 3] == 1]
    assert len(inner) > 100 and np.abs(inner[:, [0, 2]] - 0.5).max() < 0.02


def test_texels_are_found_by_their_centres():
    texture = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    texture[..., 3] = 255
    textures = make_textures([Material(np.ones(4)), Material(np.ones(4), texture)])
    assert textures.levels.tolist() == [0, 3]
    row, column = (axis.reshape(-1) for axis in np.indices((3, 5)))
    uv = np.stack([(column + 0.5) / 5 - 2, 1 - (row + 0.5) / 3 + 7], -1)
    ones = np.ones(15, np.int64)
    assert np.allclose(look_up(textures, ones, 0 * ones, uv), texture.reshape(15, 4) / 255, atol=1e-5)
    between = look_up(textures, ones[:1], 0 * ones[:1], np.array([[0.0, 1 - 0.5 / 3]]))
    assert np.allclose(between, texture[0, [0, 4]].mean(0) / 255, atol=1e-5)


def test_bands_of_a_large_image_are_those_of_the_whole(monkeypatch):
    vertices, faces = soup(3)
    colours = np.random.default_rng(1).uniform(0.1, 1, (len(vertices), 4))
    model, pose = make_model(mesh_of(vertices, faces, colours=colours), "soft"), pose_from(1.0, 2.0, 3.0)
    whole = render(model, pose, K, SIZE, 3)
    assert BAND_SAMPLES > SIZE * SIZE * 9
    monkeypatch.setattr("goembed_multiview_datasets.meshes.views.BAND_SAMPLES", 5 * SIZE * 9)
    for one, other in zip(whole, render(model, pose, K, SIZE, 3), strict=True):
        assert np.allclose(one, other, atol=1e-12)


def test_faces_that_are_seen_edge_on_or_have_no_area_are_not_seen():
    vertices = np.array([[0, -1, -0.5], [0, 1, -0.5], [0, 0, 0.5], [0.2, 0.2, 0.2]])
    model = make_model(mesh_of(vertices, [[0, 1, 2], [3, 3, 3], [0, 3, 0]]), "soft")
    seen = render(model, pose_from(0.0, 3.0, 0.0), K, SIZE, 3)
    assert not seen.rgba.any() and not seen.depth.any() and np.isfinite(seen.normal).all()
