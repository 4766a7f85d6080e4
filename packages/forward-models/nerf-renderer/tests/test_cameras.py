"""Cameras: rays through the centres of pixels, projection, frusta, and what is refused."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_nerf_renderer.cameras import (
    Camera,
    camera_rays,
    crop_camera,
    frustum,
    look_at,
    make_intrinsics,
    project,
    require_cameras,
    resize_camera,
    unproject,
    whole_image,
)

IDENTITY = torch.eye(4)[None, None]


def one_camera(fx, fy, cx, cy, pose=IDENTITY):
    return Camera(pose, make_intrinsics(*(torch.tensor([[float(n)]]) for n in (fx, fy, cx, cy))))


def test_rays_go_through_the_centres_of_pixels():
    """Of an image of 4 x 2 pixels, a focal length of 2 and the principal point in the middle."""
    camera = one_camera(2, 2, 2, 1)
    rays = camera_rays(camera, whole_image(camera, 2, 4).pixels)
    assert rays.directions.shape == (1, 1, 2, 4, 3)
    expected = torch.tensor([[[x, y, 2.0] for x in (-1.5, -0.5, 0.5, 1.5)] for y in (-0.5, 0.5)])
    expected = expected / expected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(rays.directions[0, 0], expected)
    assert not rays.origins.any()


def test_the_axes_are_right_down_and_forward():
    """Seen from the south with the sky above: east is on the right, up is at the top, north is ahead."""
    pose = look_at(torch.tensor([0.0, -4.0, 0.0]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    right, down, forward = pose[:3, :3].unbind(-1)
    torch.testing.assert_close(right, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(down, torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(forward, torch.tensor([0.0, 1.0, 0.0]))
    camera = one_camera(10, 10, 8, 6, pose[None, None])
    pixels, depth = project(camera, torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -8.0, 0.0]]]))
    torch.testing.assert_close(pixels[0, 0, :2], torch.tensor([[8 + 2.5, 6.0], [8.0, 6 - 2.5]]))
    torch.testing.assert_close(depth[0, 0], torch.tensor([4.0, 4.0, -4.0]))


def test_projection_and_its_reverse(new_cameras):
    camera = new_cameras()
    k = camera.intrinsics.clone()
    k[..., 0, 1] = 0.7  # a skew
    camera = camera._replace(intrinsics=k)
    pixels = 16 * torch.rand(2, 3, 5, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    depth = 1 + pixels[..., 0] / 10
    points = unproject(camera, pixels, depth)
    for view in range(3):
        again, z = project(camera, points[:, view].flatten(1, 2))
        torch.testing.assert_close(again[:, view].reshape(2, 5, 7, 2), pixels[:, view])
        torch.testing.assert_close(z[:, view].reshape(2, 5, 7), depth[:, view])
    rays = camera_rays(camera, pixels)
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones_like(depth))
    distance = (points - rays.origins).norm(dim=-1)
    torch.testing.assert_close(rays.origins + distance[..., None] * rays.directions, points)


def test_projection_by_matrices(new_cameras):
    """`K [R | t]` of the inverse pose."""
    camera = new_cameras()
    points = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found, _ = project(camera, points)
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], -1)
    matrix = camera.intrinsics @ torch.linalg.inv(camera.camera_to_world)[..., :3, :]
    seen = torch.einsum("bvij,bnj->bvni", matrix, homogeneous)
    torch.testing.assert_close(found, seen[..., :2] / seen[..., 2:])


def test_under_autocast_rays_keep_their_precision(new_cameras):
    camera = new_cameras(dtype=torch.float32)
    pixels = whole_image(camera, 4, 5).pixels
    points = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3))
    expected = camera_rays(camera, pixels), project(camera, points), unproject(camera, pixels, pixels[..., 0])
    with torch.autocast("cpu", torch.bfloat16):
        found = camera_rays(camera, pixels), project(camera, points), unproject(camera, pixels, pixels[..., 0])
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(found[2], expected[2])


def test_resized_and_cropped_images_see_the_same(new_cameras):
    camera = new_cameras()
    points = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    pixels, _ = project(camera, points)
    half, _ = project(resize_camera(camera, 0.5, 0.25), points)
    torch.testing.assert_close(half, pixels * pixels.new_tensor([0.5, 0.25]))
    cropped, _ = project(crop_camera(camera, 3, 5), points)
    torch.testing.assert_close(cropped, pixels - pixels.new_tensor([3, 5]))


def test_averaging_pixels_is_resizing(new_cameras):
    """The centre of a pixel of the half image is the mean of the centres of its four."""
    camera = new_cameras()
    fine = whole_image(camera, 4, 6).pixels
    means = fine.reshape(2, 3, 2, 2, 3, 2, 2).mean((3, 5))
    coarse = resize_camera(camera, 0.5, 0.5)
    torch.testing.assert_close(
        camera_rays(coarse, whole_image(coarse, 2, 3).pixels).directions, camera_rays(camera, means).directions
    )


def test_the_corners_of_a_frustum_project_to_those_of_the_image(new_cameras):
    camera = new_cameras()
    size = torch.tensor([16.0, 12.0], dtype=torch.float64).expand(2, 3, 2)
    corners = frustum(camera, size, 0.5)
    assert torch.equal(corners[:, :, 0], camera.camera_to_world[..., :3, 3])
    expected = torch.tensor([[0.0, 0.0], [16.0, 0.0], [16.0, 12.0], [0.0, 12.0]], dtype=torch.float64)
    for view in range(3):
        pixels, depth = project(camera, corners[:, view, 1:])
        torch.testing.assert_close(pixels[:, view], expected.expand(2, 4, 2), atol=1e-9, rtol=0)
        torch.testing.assert_close(depth[:, view], torch.full((2, 4), 0.5, dtype=torch.float64))


WRONG = {
    "not finite": lambda pose, k: (pose * torch.nan, k),
    "last row": lambda pose, k: (pose.mT, k),
    "is there a scale": lambda pose, k: (pose * pose.new_tensor([2.0, 2.0, 2.0, 1.0]), k),
    "mirror image": lambda pose, k: (pose * pose.new_tensor([1.0, -1.0, 1.0, 1.0]), k),
    "transposed": lambda pose, k: (pose, k.mT),
    "focal lengths are not positive": lambda pose, k: (pose, k * k.new_tensor([1.0, -1.0, 1.0])),
    "normalised": lambda pose, k: (pose, k * k.new_tensor([[1 / 16], [1 / 12], [1.0]])),
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_is_no_camera_is_refused(new_cameras, problem):
    camera = new_cameras()
    require_cameras(camera)
    pose, k = (leaf.clone() for leaf in camera)
    changed = WRONG[problem](pose[1, 2], k[1, 2])
    pose[1, 2], k[1, 2] = (leaf.clone() for leaf in changed)
    with pytest.raises(UserError, match=rf"^camera 2 of signal 1 \(1 of 6\): .*{problem}"):
        require_cameras(Camera(pose, k))
