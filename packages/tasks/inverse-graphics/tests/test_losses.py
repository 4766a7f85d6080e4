"""What is compared, and the terms of rays."""

from __future__ import annotations

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import select_views
from goembed_inverse_graphics.evaluation import spread_items
from goembed_inverse_graphics.losses import random_rays, smoothness, thinned
from goembed_inverse_graphics.model import split_scene
from goembed_inverse_graphics.view import meets_box
from goembed_multiview_datasets.boxes import BoxDataset
from goembed_multiview_datasets.config import BoxesConfig
from goembed_nerf_renderer.config import RendererConfig
from goembed_nerf_renderer.fields import BoxField
from goembed_nerf_renderer.renderer import VolumeRenderer

BOX = {"low": (-0.9, -0.9, -0.65), "high": (0.9, 0.9, 0.65)}
RENDERER = RendererConfig(near=2.9, far=5.1, box=BOX, proposal_samples=(), samples=8)


@pytest.fixture
def scenes() -> Observations:
    return BoxDataset(BoxesConfig(size=16)).observations(torch.arange(6))


def test_rays_that_meet_the_box_come_first_and_none_comes_twice(scenes):
    meets = meets_box(scenes.params, RENDERER).flatten(2)
    least = int(meets.sum(-1).min())
    chosen = random_rays(scenes, least, RENDERER, ItemRandom(0, range(6)))
    assert chosen.values.shape == (6, 3, 3, least) and meets_box(chosen.params, RENDERER).all()
    place = chosen.params.pixels.floor().long()
    flat = (place[..., 1] * 16 + place[..., 0]).sort(-1).values
    assert (torch.diff(flat, dim=-1) > 0).all()
    everything = random_rays(scenes, 256, RENDERER, ItemRandom(0, range(6)))
    assert everything.values.sum().item() == pytest.approx(scenes.values.sum().item(), rel=1e-5)
    with pytest.raises(UserError, match="300 pixels of images that have 256"):
        random_rays(scenes, 300, RENDERER, ItemRandom(0, range(6)))


def test_chosen_pixels_have_their_own_values(scenes):
    chosen = random_rays(scenes, 20, RENDERER, ItemRandom(3, range(6)))
    for item in range(6):
        for view in range(3):
            for n in range(20):
                x, y = (int(v) for v in chosen.params.pixels[item, view, n])
                assert torch.equal(chosen.values[item, view, :, n], scenes.values[item, view, :, y, x])


def test_the_box_of_the_preset_holds_every_box(scenes):
    """No pixel that misses it shows anything: leaving such rays out loses nothing."""
    found = BoxDataset(BoxesConfig(size=16, views=8)).observations(torch.arange(200))
    shown = (found.values < 1 - 1e-6).any(2)
    assert shown.float().mean() > 0.1 and not (shown & ~meets_box(found.params, RENDERER)).any()


def test_every_second_pixel_is_left(scenes):
    some = thinned(scenes, 2)
    assert torch.equal(some.values, scenes.values[..., ::2, ::2]) and some.params.pixels.shape == (6, 3, 8, 8, 2)
    rays = thinned(random_rays(scenes, 20, RENDERER, ItemRandom(3, range(6))), 3)
    assert rays.values.shape == (6, 3, 3, 7) and rays.params.pixels.shape == (6, 3, 7, 2)


def test_smoothness_is_of_disparity_and_gives_way_at_edges(scenes):
    """A box seen from its side is flat but for its outline, where the image has an edge."""
    low = torch.full((6, 1, 3), -0.6)
    field = BoxField(low, -low, torch.full((6, 1), 50.0), torch.full((6, 1, 3), 0.2), torch.full((6, 1), 0.05))
    seen = VolumeRenderer(RENDERER).render(field, scenes.params)
    plain = smoothness(seen, torch.zeros_like(scenes.values))
    edged = smoothness(seen, 2 * seen.colour - 1)
    assert 0 < edged < plain
    flat = seen._replace(depth=3 * seen.opacity.clamp(min=1e-3))
    assert smoothness(flat, scenes.values) < 1e-3


def test_the_context_is_the_first_view_or_drawn(settings, scenes):
    """In boxes the first view is the one that says nothing of the hidden face."""
    random = ItemRandom(0, range(6))
    split = split_scene(scenes, settings("views.score_context=false").views, random)
    assert torch.equal(split.context.values[:, 0], 2 * scenes.values[:, 0] - 1)
    rest = torch.cat([split.target.values, split.novel.values], 1)
    first = (rest[:, 0] == 2 * scenes.values[:, 1] - 1).flatten(1).all(1)
    assert first.any() and not first.all()
    assert torch.equal(rest.sum(1)[0], (2 * scenes.values[0, 1:] - 1).sum(0))
    anything = split_scene(scenes, settings("views.first_is_context=false", "views.score_context=false").views, random)
    own = (anything.context.values[:, 0] == 2 * scenes.values[:, 0] - 1).flatten(1).all(1)
    assert not own.all()
    known = split_scene(scenes, settings("views.score_context=true").views, ItemRandom(0, range(6)))
    assert torch.equal(known.novel.values, torch.cat([split.novel.values, split.context.values], 1))
    assert torch.equal(known.novel.params.camera.camera_to_world[:, 1], scenes.params.camera.camera_to_world[:, 0])
    two = split_scene(select_views(scenes, slice(0, 2)), settings("views.score_context=true").views, random)
    assert torch.equal(two.novel.values, two.context.values)
    with pytest.raises(UserError, match=r"3 views for 3 of context"):
        split_scene(scenes, settings("views.context=3").views, random)


@pytest.mark.parametrize("count", [1, 4, 23, 46, 200])
def test_what_is_judged_is_spread_over_the_scenes(count):
    """Scenes that are drawn 64 times each: none comes again before all have come."""
    items = spread_items(count, 46)
    assert len(items) == count and int(items.max()) < 46 * 64
    assert len((items % 46).unique()) == min(count, 46)
    assert count == 1 or int((items % 46).max()) >= 0.7 * 45
