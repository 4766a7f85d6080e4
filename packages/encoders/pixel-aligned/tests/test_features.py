"""Projecting, sampling and averaging, against what is obviously right."""

from __future__ import annotations

import math

import pytest
import torch
from goembed_nerf_renderer.cameras import Camera, look_at, make_intrinsics, whole_image
from goembed_pixel_aligned.features import look_up, mean_over_views, sample_maps, view_weights
from torch import nn


def one_camera(side: float = 8.0) -> Camera:
    """At (0, 0, -3), looking along z, with x to the right."""
    pose = torch.eye(4)[None, None].clone()
    pose[..., 2, 3] = -3
    focal, middle = torch.full((1, 1), 10.0), torch.full((1, 1), side / 2)
    return Camera(pose, make_intrinsics(focal, focal, middle, middle))


def test_a_linear_layer_may_be_applied_before_the_sampling():
    """`W Σ w_i F_i + b = Σ w_i (W F_i + b)`: once a pixel instead of once a point, within and outside of the image."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 20, 7, 9, generator=generator)
    place = 3 * torch.rand(2, 3, 50, 2, generator=generator) - 1.5
    linear = nn.Linear(20, 12)
    after = linear(sample_maps(maps, place))
    projected = torch.einsum("oc,bvchw->bvohw", linear.weight, maps) + linear.bias[:, None, None]
    before = sample_maps(projected, place)
    assert before.shape == (2, 3, 50, 12)
    assert (before - after).abs().max() < 1e-5 * after.abs().max()


def test_sampling_interpolates_between_the_centres_of_pixels():
    """At the centre of a pixel its own feature, half way between two their mean; outside the outermost goes on."""
    maps = torch.arange(8.0).expand(1, 1, 1, 4, 8)  # 8 columns
    columns = torch.tensor([0.5, 3.5, 4.0, 7.9, -2.0, 11.0])
    place = torch.stack([2 * columns / 8 - 1, torch.zeros(6)], -1)[None, None]
    torch.testing.assert_close(sample_maps(maps, place).flatten(), torch.tensor([0.0, 3.0, 3.5, 7.0, 0.0, 7.0]))


def test_points_are_found_where_the_rays_of_pixels_go():
    """The centre of each pixel, unprojected to some depth, is found there again."""
    camera = Camera(
        look_at(torch.tensor([[[2.0, 1.0, 1.5]]]), torch.zeros(3), torch.tensor([0.0, 0, 1])), one_camera()[1]
    )
    params = whole_image(camera, 8, 8)
    rays_end = (
        torch.linalg.inv(camera.intrinsics[0, 0])
        @ torch.cat([params.pixels, torch.ones(1, 1, 8, 8, 1)], -1)[0, 0].reshape(-1, 3).T
    )
    points = (camera.camera_to_world[0, 0, :3, :3] @ (2.5 * rays_end)).T + camera.camera_to_world[0, 0, :3, 3]
    sight = look_up(camera, params.image_size, points[None])
    torch.testing.assert_close((sight.place + 1) * 4, params.pixels.reshape(1, 1, 64, 2))
    assert sight.valid.all()
    torch.testing.assert_close(sight.local[..., 2], torch.full((1, 1, 64), 2.5))


@pytest.mark.parametrize(
    ("point", "valid"),
    [
        ((0.0, 0.0, 0.0), True),
        ((0.0, 0.0, -3.5), False),  # behind: it would be projected into the middle of the image
        ((0.0, 0.0, -3.0), False),  # at the camera itself
        ((1.1, 0.0, 0.0), True),  # 3.67 pixels to the right of the middle, of 4
        ((1.3, 0.0, 0.0), False),
        ((0.0, -1.3, 0.0), False),
    ],
)
def test_a_point_is_valid_before_the_camera_and_within_its_image(point, valid):
    size = torch.tensor([[[8.0, 8.0]]])
    sight = look_up(one_camera(), size, torch.tensor([[point]]))
    assert sight.valid.item() is valid and sight.place.isfinite().all()


def test_the_mean_is_over_the_views_that_see():
    values = torch.tensor([[[[1.0]] * 4, [[3.0]] * 4, [[8.0]] * 4]])  # three views of four points
    valid = torch.tensor([[[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]], dtype=torch.bool)
    torch.testing.assert_close(mean_over_views(values, valid.float()), torch.tensor([[[4.0], [4.5], [8.0], [0.0]]]))


def test_weights_of_views_are_a_softmax_over_those_that_see():
    logits = torch.tensor([[[math.log(3), 90.0, 5.0], [0.0, -90.0, 7.0]]])  # two views of three points
    valid = torch.tensor([[[1, 0, 0], [1, 1, 0]]], dtype=torch.bool)
    found = view_weights(logits.requires_grad_(), valid)
    torch.testing.assert_close(found, torch.tensor([[[0.75, 0.0, 0.0], [0.25, 1.0, 0.0]]]))
    found[0, 0].sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[[0.1875, 0.0, 0.0], [-0.1875, 0.0, 0.0]]]))
