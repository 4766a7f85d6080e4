"""Whole images, patches and rays are one thing: the same pixels, with the same values."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_nerf_renderer.cameras import (
    channels_first,
    channels_last,
    patch,
    random_patch,
    random_pixels,
    split_pixels,
    whole_image,
)
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.renderer import VolumeRenderer


@pytest.fixture
def seen(new_cameras):
    """Images whose values say which pixel of which view they are of."""
    params = whole_image(new_cameras(), 12, 16)
    view = torch.arange(6.0, dtype=torch.float64).view(2, 3, 1, 1, 1).expand(2, 3, 12, 16, 1)
    return Observations(channels_first(torch.cat([params.pixels, view], -1)), params)


def test_a_whole_image(new_cameras):
    params = whole_image(new_cameras(), 12, 16)
    assert params.pixels.shape == (2, 3, 12, 16, 2)
    assert params.pixels[1, 2, 3, 5].tolist() == [5.5, 3.5]
    assert params.image_size[0, 1].tolist() == [16, 12]


def test_a_patch_is_a_slice(seen):
    left, top = torch.tensor([[0, 3, 11], [2, 4, 6]]), torch.tensor([[0, 1, 8], [5, 3, 2]])
    found = patch(seen, left, top, 4, 5)
    for b in range(2):
        for v in range(3):
            rows, columns = slice(top[b, v], top[b, v] + 4), slice(left[b, v], left[b, v] + 5)
            assert torch.equal(found.values[b, v], seen.values[b, v, :, rows, columns])
            assert torch.equal(found.params.pixels[b, v], seen.params.pixels[b, v, rows, columns])
    assert found.params.camera is seen.params.camera
    assert torch.equal(found.params.image_size, seen.params.image_size)


@pytest.mark.parametrize("draw", [lambda o, r: random_patch(o, 3, 4, r), lambda o, r: random_pixels(o, 40, r)])
def test_values_go_with_their_pixels(seen, draw):
    found = draw(seen, ItemRandom(0, [7, 8]))
    own = channels_last(found.values)
    assert torch.equal(own[..., :2], found.params.pixels)
    assert torch.equal(own[..., 2].flatten(2).amax(2).flatten(), torch.arange(6.0).double())
    again = draw(Observations(*(_half(leaf) for leaf in seen)), ItemRandom(0, [8]))
    assert torch.equal(again.values, found.values[1:])  # whatever else is in the batch
    other = draw(seen, ItemRandom(1, [7, 8]))
    assert not torch.equal(other.values, found.values)


def _half(tree):
    from goembed_core.trees import tree_map

    return tree_map(lambda leaf: leaf[1:], tree)


def test_every_place_is_drawn(seen):
    few = Observations(*(_half(leaf) for leaf in seen))
    many = [random_patch(few, 11, 14, ItemRandom(0, [i])).params.pixels[0, :, 0, 0] for i in range(100)]
    corners = {tuple(corner.tolist()) for corner in torch.cat(many)}
    assert corners == {(x + 0.5, y + 0.5) for x in range(3) for y in range(2)}
    pixels = random_pixels(few, 2000, ItemRandom(0, [0])).params.pixels.reshape(-1, 2)
    assert len({tuple(pixel.tolist()) for pixel in pixels}) == 12 * 16


def test_smaller_views_are_drawn_from_where_they_are(seen):
    """Views of several sizes in one tensor, the rest being padding."""
    size = seen.params.image_size.clone()
    size[0, 1] = torch.tensor([5.0, 4.0])
    seen = seen._replace(params=seen.params._replace(image_size=size))
    pixels = random_pixels(seen, 500, ItemRandom(0, [0, 1])).params.pixels[0, 1]
    assert pixels.amax(0).tolist() == [4.5, 3.5]
    places = random_patch(seen, 4, 5, ItemRandom(0, [0, 1])).params.pixels
    assert places[0, 1].amax((0, 1)).tolist() == [4.5, 3.5]
    with pytest.raises(UserError, match="a patch of 6 x 4 pixels does not fit into an image of 5 x 4"):
        random_patch(seen, 4, 6, ItemRandom(0, [0, 1]))


@pytest.mark.parametrize("size", [1, 50, 64, 192, 1000])
def test_parts_are_all_pixels_with_their_values(seen, size):
    parts = split_pixels(seen, size)
    assert [part.values.shape[3] for part in parts] == [len(n) for n in torch.arange(192).split(size)]
    for part in parts:
        assert torch.equal(channels_last(part.values)[..., :2], part.params.pixels)
        assert part.params.camera is seen.params.camera
    whole = torch.cat([part.values for part in parts], 3)
    assert torch.equal(whole.unflatten(3, (12, 16)), seen.values)


def test_patches_and_rays_are_split_too(seen):
    cut = random_patch(seen, 3, 4, ItemRandom(0, [0, 1]))
    rays = random_pixels(seen, 7, ItemRandom(0, [0, 1]))
    one = seen._replace(
        values=seen.values[..., 2, 3], params=seen.params._replace(pixels=seen.params.pixels[:, :, 2, 3])
    )
    for some, sizes in ((cut, [5, 5, 2]), (rays, [5, 2]), (one, [1])):
        parts = split_pixels(some, 5)
        assert [part.values.shape[3] for part in parts] == sizes
        values = torch.cat([part.values for part in parts], 3)
        pixels = torch.cat([part.params.pixels for part in parts], 2)
        assert torch.equal(values.reshape(some.values.shape), some.values)
        assert torch.equal(pixels.reshape(some.params.pixels.shape), some.params.pixels)


def test_parts_that_cannot_be_are_refused(seen):
    with pytest.raises(UserError, match="parts of size=0 pixels: give at least 1"):
        split_pixels(seen, 0)
    turned = seen._replace(values=seen.values.mT)
    with pytest.raises(UserError, match=r"values \(2, 3, 3, 16, 12\) and pixels \(2, 3, 12, 16, 2\): expected as many"):
        split_pixels(turned, 5)


def test_what_is_no_whole_image_is_refused(seen):
    few = random_pixels(seen, 9, ItemRandom(0, [0, 1]))
    with pytest.raises(UserError, match=r"values \(2, 3, 3, 9\) and pixels \(2, 3, 9, 2\): expected whole images"):
        random_pixels(few, 4, ItemRandom(0, [0, 1]))


def test_patches_and_rays_are_rendered_as_within_the_whole(new_cameras):
    model = VolumeRenderer(RendererConfig(samples=8, proposal_samples=(8,))).double()
    signal, _ = model.example(2, torch.Generator().manual_seed(0))
    field = type(signal.field)(*(leaf.double() for leaf in signal.field))
    params = whole_image(new_cameras(), 6, 8)
    image = Observations(model(field, params), params)
    for part in (random_patch(image, 3, 2, ItemRandom(0, [0, 1])), random_pixels(image, 5, ItemRandom(0, [0, 1]))):
        torch.testing.assert_close(model(field, part.params), part.values)
    one = params._replace(pixels=params.pixels[:, :, 2, 3])  # a single position of each view
    torch.testing.assert_close(model(field, one), image.values[:, :, :, 2, 3])
