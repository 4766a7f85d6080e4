"""Unprojection against places looked up one by one."""

from __future__ import annotations

import pytest
import torch
from goembed_core import plugins
from goembed_core.errors import ConfigError, UserError
from goembed_core.protocols import Observations
from goembed_nerf_renderer.cameras import Camera, look_at, make_intrinsics, project, whole_image

SIDE, HEIGHT, WIDTH = 5, 9, 7


def encoder_of(name, **settings):
    return plugins.build(
        "encoder", "unprojection", {"forward_model": {"name": name, "resolution": SIDE, "channels": 6, **settings}}
    )


def plain(encoder):
    """Its moments themselves, as channels."""
    with torch.no_grad():
        encoder.channels.weight.copy_(torch.eye(6))
        encoder.channels.bias.zero_()
    return encoder.eval()


@pytest.fixture
def views():
    """Two objects seen by three cameras, wide enough to see everything."""
    eyes = torch.tensor([[3.0, 1.0, 1.0], [-2.0, 3.0, 0.5], [0.5, -3.0, 2.0]])
    poses = look_at(eyes, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    intrinsics = make_intrinsics(*(torch.tensor(v) for v in (3.0, 3.0, WIDTH / 2, HEIGHT / 2)))
    camera = Camera(poses.expand(2, 3, 4, 4), intrinsics.expand(2, 3, 3, 3))
    values = torch.rand(2, 3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return Observations(values, whole_image(camera, HEIGHT, WIDTH))


def moments_at(views, item, place):
    """Mean and variance of what the three views have at a place, by hand."""
    camera = Camera(*(leaf[item : item + 1] for leaf in views.params.camera))
    pixels, _ = project(camera, place[None, None])
    found = []
    for view in range(3):
        x, y = (pixels[0, view, 0] - 0.5).tolist()
        left, top = int(x // 1), int(y // 1)
        image = 2 * views.values[item, view] - 1
        colour = torch.zeros(3)
        for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
            for column, right in ((left, 1 - (x - left)), (left + 1, x - left)):
                colour += down * right * image[:, min(max(row, 0), HEIGHT - 1), min(max(column, 0), WIDTH - 1)]
        found.append(colour)
    stacked = torch.stack(found)
    return torch.cat([stacked.mean(0), stacked.var(0, correction=0)])


def test_voxels_have_the_moments_of_the_views_at_their_cells(views):
    found = plain(encoder_of("voxels"))(views)
    at = torch.linspace(-1, 1, SIDE)
    for item, (z, y, x) in ((0, (1, 2, 3)), (1, (4, 0, 2)), (1, (2, 2, 2))):
        torch.testing.assert_close(
            found[item, :, z, y, x], moments_at(views, item, torch.stack([at[x], at[y], at[z]])), atol=1e-5, rtol=1e-4
        )


def test_planes_and_lines_have_means_of_the_volume(views):
    volume = plain(encoder_of("voxels"))(views)  # (b, c, z, y, x)
    planes = plain(encoder_of("triplane"))(views)
    for plane, axis in enumerate((2, 3, 4)):  # xy lacks z, xz lacks y, yz lacks x
        torch.testing.assert_close(planes[:, plane], volume.mean(axis))
    factors = plain(encoder_of("factored"))(views)
    torch.testing.assert_close(factors.planes, planes)
    for line, axes in enumerate(((3, 4), (2, 4), (2, 3))):  # along z, y and x
        torch.testing.assert_close(factors.lines[:, line], volume.mean(axes))


def test_a_cell_that_no_view_sees_has_zero(views):
    narrow = views.params.camera.intrinsics.clone()
    narrow[..., :2, :2] *= 40  # sees the middle alone
    camera = views.params.camera._replace(intrinsics=narrow)
    encoder = encoder_of("voxels").eval()
    found = encoder(views._replace(params=views.params._replace(camera=camera)))
    assert found[:, :, 0, 0, 0].abs().max() == 0 and found[:, :, 2, 2, 2].abs().max() > 0


def test_the_first_batch_of_training_is_scaled_to_one_and_keeps_its_scale(views):
    encoder = encoder_of("voxels")
    with torch.no_grad():
        encoder.channels.weight.copy_(torch.eye(6))
        encoder.channels.bias.zero_()
    rms = encoder(views).square().mean((0, 2, 3, 4)).sqrt()
    torch.testing.assert_close(rms, torch.ones(6), atol=1e-4, rtol=0)
    kept = encoder.rms.clone()
    encoder(views._replace(values=0.1 * views.values))
    assert (encoder.rms == kept).all() and encoder.measured


def test_what_has_no_grid_is_refused(views):
    with pytest.raises(ConfigError, match="forward_model=siren has no cells that are places"):
        plugins.build("encoder", "unprojection", {"forward_model": "siren"})
    with pytest.raises(UserError, match=r"expected whole images, \(B, V, 3, H, W\)"):
        encoder_of("voxels")(views._replace(values=views.values.flatten(3)))
