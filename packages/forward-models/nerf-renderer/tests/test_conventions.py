"""The cameras of others: each there and back, and against the formula that its authors publish."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import (
    Camera,
    camera_rays,
    from_colmap,
    from_llff,
    from_opengl,
    from_pytorch3d,
    from_realestate10k,
    project,
    require_cameras,
    to_colmap,
    to_llff,
    to_opengl,
    to_pytorch3d,
    to_realestate10k,
    unproject,
    whole_image,
)
from goembed_nerf_renderer.cameras.conventions import PyTorch3DCamera, RealEstateCamera

WIDTH, HEIGHT = 16, 12
POINT = np.array([0.3, -0.2, 0.4])  # before all of the cameras


def seen(camera, view, point=POINT):
    """Where we see a point."""
    pixels, depth = project(camera, torch.from_numpy(point)[None, None].expand(len(camera.intrinsics), 1, 3))
    assert (depth > 0).all()
    return pixels[0, view, 0].numpy()


def square(camera, centred=True):
    """One focal length, and the principal point in the middle."""
    k = camera.intrinsics.clone()
    k[..., 1, 1] = k[..., 0, 0]
    if centred:
        k[..., 0, 2], k[..., 1, 2] = WIDTH / 2, HEIGHT / 2
    return camera._replace(intrinsics=k)


def assert_same(found, expected):
    require_cameras(found)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def nerf_point(pose, focal, x, y, distance):
    """NeRF's `get_rays_np`, at a position in the image instead of a pixel's number."""
    direction = np.array([(x - WIDTH * 0.5) / focal, -(y - HEIGHT * 0.5) / focal, -1.0])
    return pose[:3, 3] + distance * np.sum(direction * pose[:3, :3], -1)


def test_opengl(new_cameras):
    camera = square(new_cameras())
    poses, angle = to_opengl(camera, WIDTH)
    assert_same(from_opengl(poses, angle, WIDTH, HEIGHT), camera)
    focal = 0.5 * WIDTH / math.tan(0.5 * float(angle[0, 1]))
    point = nerf_point(poses[0, 1].numpy(), focal, 3.2, 7.9, 2.5)
    np.testing.assert_allclose(seen(camera, 1, point), [3.2, 7.9])


def test_blender_by_hand():
    """A camera of `transforms.json` that was not turned looks down the z axis, with y up and 90 degrees wide."""
    camera = from_opengl(torch.eye(4)[None, None], math.pi / 2, 20, 10)
    torch.testing.assert_close(camera.intrinsics[0, 0], torch.tensor([[10.0, 0, 10], [0, 10, 5], [0, 0, 1]]))
    pixels, depth = project(camera, torch.tensor([[[1.0, 0.4, -2.0]]]))
    torch.testing.assert_close(pixels[0, 0, 0], torch.tensor([15.0, 3.0]))
    assert depth.item() == 2


def test_llff(new_cameras):
    camera = square(new_cameras())
    bounds = torch.tensor([1.5, 9.0], dtype=torch.float64).expand(2, 3, 2)
    rows = to_llff(camera, bounds, WIDTH, HEIGHT)
    found, near_far = from_llff(rows, WIDTH, HEIGHT)
    assert_same(found, camera)
    assert torch.equal(near_far, bounds)

    poses = rows[0, 1, :15].reshape(3, 5).numpy()  # as NeRF's load_llff.py has it: [R | t | hwf], axes turned to OpenGL
    turned = np.concatenate([poses[:, 1:2], -poses[:, 0:1], poses[:, 2:4]], 1)
    assert poses[:2, 4].tolist() == [HEIGHT, WIDTH]
    np.testing.assert_allclose(seen(camera, 1, nerf_point(turned, poses[2, 4], 4.1, 2.2, 3.0)), [4.1, 2.2])

    eighth, _ = from_llff(to_llff(camera, bounds, 8 * WIDTH, 8 * HEIGHT), WIDTH, HEIGHT)  # the images are smaller
    torch.testing.assert_close(eighth.intrinsics[..., 0, 0], camera.intrinsics[..., 0, 0] / 8)


def test_llff_of_another_shape_is_refused():
    with pytest.raises(UserError, match=r"shape \(20, 15\): expected \(views, 17\)"):
        from_llff(torch.zeros(20, 15), 8, 8)


@pytest.mark.parametrize("width,height", [(16, 12), (12, 16)])
@pytest.mark.parametrize("ndc", ["ndc_isotropic", "ndc_norm_image_bounds"])
def test_pytorch3d(new_cameras, ndc, width, height):
    """`X_camera = X R + T`; NDC is +x left, +y up, and ±1 at the borders of the shorter side (or of each)."""
    camera = new_cameras()
    theirs = to_pytorch3d(camera, width, height, ndc)
    assert_same(from_pytorch3d(theirs, width, height, ndc), camera)
    rotation, translation, focal, principal = (leaf[0, 2].numpy() for leaf in theirs)
    x, y, z = POINT @ rotation + translation
    x_ndc, y_ndc = focal[0] * x / z + principal[0], focal[1] * y / z + principal[1]
    scale_x, scale_y = (min(width, height) / 2,) * 2 if ndc == "ndc_isotropic" else (width / 2, height / 2)
    np.testing.assert_allclose(seen(camera, 2), [width / 2 - scale_x * x_ndc, height / 2 - scale_y * y_ndc])


def test_pytorch3d_by_hand():
    """A point with positive x and y is on the left and above; at the short side's border NDC is 1."""
    theirs = PyTorch3DCamera(torch.eye(3)[None, None], torch.zeros(1, 1, 3), torch.ones(1, 1, 2), torch.zeros(1, 1, 2))
    pixels, depth = project(from_pytorch3d(theirs, 40, 20), torch.tensor([[[2.0, 1.0, 2.0]]]))
    torch.testing.assert_close(pixels[0, 0, 0], torch.tensor([10.0, 5.0]))
    assert depth.item() == 2
    with pytest.raises(UserError, match="ndc='screen': expected 'ndc_isotropic' or"):
        from_pytorch3d(theirs, 40, 20, "screen")


def test_realestate10k(new_cameras):
    camera = new_cameras()
    theirs = to_realestate10k(camera, WIDTH, HEIGHT)
    assert_same(from_realestate10k(theirs, WIDTH, HEIGHT), camera)
    (fx, fy, cx, cy), pose = theirs.intrinsics[0, 1].numpy(), theirs.world_to_camera[0, 1].numpy()
    x, y, z = pose @ [*POINT, 1.0]
    np.testing.assert_allclose(seen(camera, 1), [WIDTH * (fx * x / z + cx), HEIGHT * (fy * y / z + cy)])


def test_a_line_of_realestate10k():
    """Numbers as they stand in a file: a camera half a unit to the right, looking a little to the left."""
    line = "0.5 0.9 0.5 0.5 0 0 0.8 0 0.6 -0.4 0 1 0 0 -0.6 0 0.8 0.3"
    numbers = torch.tensor([float(word) for word in line.split()], dtype=torch.float64)[None, None]
    camera = from_realestate10k(RealEstateCamera(numbers[..., :4], numbers[..., 6:].unflatten(-1, (3, 4))), 640, 360)
    torch.testing.assert_close(camera.camera_to_world[0, 0, :3, 3], torch.tensor([0.5, 0.0, 0.0]).double())
    rays = camera_rays(camera, torch.tensor([320.0, 180.0]).double()[None, None])
    torch.testing.assert_close(rays.directions[0, 0], torch.tensor([-0.6, 0.0, 0.8]).double())


def rotate(q, vector):
    """`q v q*`, by the product of quaternions."""

    def product(a, b):
        scalar = a[0] * b[0] - a[1:] @ b[1:]
        return np.array([scalar, *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))])

    return product(product(q, np.array([0.0, *vector])), q * [1, -1, -1, -1])[1:]


def test_colmap(new_cameras):
    camera = new_cameras()
    k = camera.intrinsics
    k[:] = k[:1, :1]  # one lens
    qvec, tvec, params = to_colmap(camera)
    assert_same(from_colmap(qvec, tvec, "PINHOLE", params[0, 0].tolist()), camera)
    fx, fy, cx, cy = params[0, 0].tolist()
    x, y, z = rotate(qvec[0, 1].numpy(), POINT) + tvec[0, 1].numpy()
    np.testing.assert_allclose(seen(camera, 1), [fx * x / z + cx, fy * y / z + cy])


def test_quaternions_there_and_back():
    """Of all turns, large ones too; of the two that are the same turn, the one with `w >= 0`."""
    q = torch.nn.functional.normalize(
        torch.randn(1, 500, 4, generator=torch.Generator().manual_seed(0)).double(), dim=-1
    )
    camera = from_colmap(q, torch.zeros(1, 500, 3).double(), "SIMPLE_PINHOLE", [9.0, 4.0, 3.0])
    found, _, _ = to_colmap(camera)
    torch.testing.assert_close(found, torch.where(q[..., :1] < 0, -q, q))


def test_quaternions_of_half_turns():
    """Where `1 + trace` is zero, and the usual formula divides by it."""
    for axis in range(3):
        signs = -torch.ones(3)
        signs[axis] = 1
        pose = torch.eye(4)
        pose[:3, :3] = torch.diag(signs)
        camera = from_colmap(torch.eye(4)[axis + 1][None, None], torch.zeros(1, 1, 3), "SIMPLE_PINHOLE", [9.0, 4, 3])
        torch.testing.assert_close(camera.camera_to_world[0, 0], pose)
        torch.testing.assert_close(to_colmap(camera)[0][0, 0].abs(), torch.eye(4)[axis + 1])


LENSES = {
    "SIMPLE_PINHOLE": [9.0, 4.0, 3.0],
    "PINHOLE": [9.0, 9.0, 4.0, 3.0],
    "SIMPLE_RADIAL": [9.0, 4.0, 3.0, 0.0],
    "RADIAL": [9.0, 4.0, 3.0, 0.0, 0.0],
    "OPENCV": [9.0, 9.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("model", LENSES)
def test_lenses_of_colmap(model):
    pose = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), torch.zeros(1, 1, 3)
    found = from_colmap(*pose, model, LENSES[model]).intrinsics[0, 0]
    torch.testing.assert_close(found, torch.tensor([[9.0, 0, 4], [0, 9, 3], [0, 0, 1]]))


@pytest.mark.parametrize(
    "model,params,problem",
    [
        ("SIMPLE_RADIAL", [9.0, 4, 3, -0.1], r"SIMPLE_RADIAL has a distortion \(k=-0.1\).*undistort the images"),
        ("OPENCV", [9.0, 9, 4, 3, 0.1, 0, 0, 0.2], r"OPENCV has a distortion \(k1=0.1, p2=0.2\)"),
        ("OPENCV_FISHEYE", [9.0] * 8, "OPENCV_FISHEYE is no pinhole camera: undistort"),
        ("PINHOLE", [9.0, 4, 3], "PINHOLE with 3 parameters, expected 4: fx, fy, cx, cy"),
        ("PINHOLES", [9.0] * 4, "unknown COLMAP camera 'PINHOLES'; did you mean 'PINHOLE'"),
    ],
)
def test_other_lenses_are_refused(model, params, problem):
    with pytest.raises(UserError, match=problem):
        from_colmap(torch.ones(1, 1, 4), torch.zeros(1, 1, 3), model, params)


@pytest.mark.skipif("GOEMBED_DATA" not in os.environ, reason="needs the real scene nerf_lego, in $GOEMBED_DATA")
def test_the_silhouettes_of_a_real_scene_meet():
    """Carving by the masks of 24 views leaves a thing of the right size; by cameras turned wrongly, nothing."""
    import json

    from PIL import Image

    folder = Path(os.environ["GOEMBED_DATA"]) / "nerf_lego"
    scene = json.loads((folder / "transforms_train.json").read_text())
    frames = scene["frames"][:48:2]
    masks = [np.asarray(Image.open(folder / f"{frame['file_path']}.png"))[..., 3] > 127 for frame in frames]
    height, width = masks[0].shape
    poses = torch.tensor([frame["transform_matrix"] for frame in frames])[None]
    ticks = torch.linspace(-1.5, 1.5, 41)
    points = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(1, -1, 3)

    def hull(camera):
        pixels, depth = project(camera, points)
        x, y = pixels.nan_to_num(-1).clamp(-1, max(width, height)).floor().long()[0].numpy().transpose(2, 0, 1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth[0] > 0).numpy()
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        met = np.stack([mask[v, u] for mask, v, u in zip(masks, y, x, strict=True)]) & inside
        return points[0].numpy()[met.all(0)]

    camera = from_opengl(poses, scene["camera_angle_x"], width, height)
    require_cameras(camera)
    found = hull(camera)
    assert 1000 < len(found) < 20000
    extent = found.max(0) - found.min(0)
    assert (extent > 0.8).all() and (extent < 2.7).all()
    upside_down = camera._replace(camera_to_world=poses)
    assert len(hull(upside_down)) < 0.1 * len(found)


@pytest.mark.skipif("GOEMBED_DATA" not in os.environ, reason="needs the real scene llff_fern, in $GOEMBED_DATA")
def test_the_photographs_of_a_real_scene_agree():
    """A plane sweep: at the best of 24 depths, neighbours show what one photograph does; turned, they do not."""
    from PIL import Image

    folder, width, height, ours, others = Path(os.environ["GOEMBED_DATA"]) / "llff_fern", 84, 63, 10, (8, 9, 11, 12)
    camera, bounds = from_llff(torch.from_numpy(np.load(folder / "poses_bounds.npy")).float()[None], width, height)
    require_cameras(camera)
    photographs = {}
    for number, path in enumerate(sorted((folder / "images_8").iterdir())):
        if number in (ours, *others):
            small = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BOX)
            photographs[number] = torch.from_numpy(np.array(small)).float().movedim(2, 0) / 255

    def disagreement(camera):
        views = {number: Camera(*(leaf[:, [number]] for leaf in camera)) for number in photographs}
        pixels = whole_image(views[ours], height, width).pixels
        errors = []
        for depth in 1 / torch.linspace(1 / bounds.max(), 1 / bounds.min(), 24):
            points = unproject(views[ours], pixels, depth.expand(pixels.shape[:-1])).reshape(1, -1, 3)
            error = torch.zeros(height, width)
            for other in others:
                place = project(views[other], points)[0].reshape(1, height, width, 2)
                place = 2 * place / torch.tensor([width, height]) - 1
                warped = torch.nn.functional.grid_sample(photographs[other][None], place, align_corners=False)[0]
                error += (warped - photographs[ours]).abs().mean(0) / len(others)
            errors.append(error)
        return torch.stack(errors).amin(0).mean().item()

    agreement = disagreement(camera)
    assert agreement < 0.045
    for signs in ([1.0, -1, -1, 1], [-1.0, -1, 1, 1]):
        turned = camera._replace(camera_to_world=camera.camera_to_world * torch.tensor(signs))
        assert disagreement(turned) > 1.7 * agreement
