"""Which rays are drawn, and where the scene is taken to be."""

from __future__ import annotations

import pytest
import torch
from goembed_core.config import resolve
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_fit_scene.scene import find_place, load_scene, pixel_table, placed_field, placed_renderer
from goembed_nerf_renderer.boxes import FieldBox
from goembed_nerf_renderer.cameras import Camera, camera_rays, unproject
from goembed_nerf_renderer.config import FieldConfig

BOX = 'box={"low":[-0.9,-0.9,-0.9],"high":[0.9,0.9,0.9]}'


def settings(folder, *words):
    near_far = "dataset.near_far=[2.0,4.0]"
    return resolve("fit_scene", [f"dataset.path={folder}", "dataset.size=24", near_far, *words]).config


@pytest.fixture(scope="module")
def table(balls_scene):
    config = settings(balls_scene, BOX)
    scene = load_scene(config)
    renderer = placed_renderer(config, find_place(config, scene), scene).settings
    return scene, renderer, pixel_table(scene, renderer)


def test_drawn_rays_are_pixels_of_the_views(table):
    scene, _, pixels = table
    drawn = pixels.draw(ItemRandom(0, range(500)), False)
    assert drawn.params.pixels.shape == (500, 1, 1, 2)
    poses = scene.train.camera.camera_to_world
    for n in range(0, 500, 25):
        view = (poses == drawn.params.camera.camera_to_world[n, 0]).flatten(1).all(1).nonzero().item()
        x, y = (drawn.params.pixels[n, 0, 0] - 0.5).long().tolist()
        assert torch.equal(drawn.colour[n], scene.train.images[view, :, y, x])
    assert (drawn.background == 1).all()


def test_an_item_draws_the_same_ray_in_any_batch(table):
    pixels = table[2]
    whole, part = (pixels.draw(ItemRandom(3, items), True) for items in (range(40), range(17, 30)))
    for one, other in zip((whole.colour, whole.background), (part.colour, part.background), strict=True):
        assert torch.equal(one[17:30], other)
    assert torch.equal(whole.params.pixels[17:30], part.params.pixels)


def test_another_background_is_behind_what_is_clear(table):
    pixels = table[2]
    random = ItemRandom(0, range(400))
    plain, drawn = pixels.draw(random, False), pixels.draw(ItemRandom(0, range(400)), True)
    clear = (drawn.colour - plain.colour) / (drawn.background - 1)
    assert clear.std(1).max() < 1e-3 and clear.min() > -1e-3 and clear.max() < 1.001
    assert (clear[:, 0] > 0.99).any() and (clear[:, 0] < 0.01).any() and drawn.background.std(0).min() > 0.2


def test_rays_that_miss_the_box_are_never_drawn(table):
    pixels = table[2]
    assert 0.3 < len(pixels.view) / (30 * 24 * 24) < 0.95
    camera = Camera(*(leaf[pixels.view][:, None] for leaf in pixels.camera))
    rays = camera_rays(camera, pixels.pixels[:, None, None])
    steps = torch.linspace(2, 4, 400)
    along = rays.origins[:, 0] + steps[:, None] * rays.directions[:, 0]
    met = (along.abs() < 0.9 + 1e-3).all(2).any(1)
    assert met.float().mean() > 0.99  # but for corners between two steps


def test_without_a_box_there_is_one_around_what_is_seen(balls_scene):
    config = settings(balls_scene, "box=null")
    scene = load_scene(config)
    place = find_place(config, scene)
    assert (place.near, place.far) == (2.0, 4.0)
    box = FieldBox(FieldConfig(box=place.box), 8)
    camera = Camera(*(leaf[None] for leaf in scene.train.camera))
    corner = torch.tensor([0.0, 24.0]).expand(1, 30, 2)
    seen = unproject(camera, corner, torch.full((1, 30), 3.9))
    assert box.cell_of(seen.reshape(-1, 3))[1].all()


def test_images_without_cameras_are_refused():
    with pytest.raises(UserError, match=r"dataset\.name=images: expected posed views of scenes on a background"):
        load_scene(resolve("fit_scene", ["dataset=images"]).config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scene=3"], "scene=3: there are 1 scenes"),
        (["dataset.split=test"], "expected a dataset with splits, and dataset.split=train"),
        (["dataset.views=3"], "dataset.views: all views of a scene are fitted"),
        (["space=perspective"], "box is in the world, and space=perspective finds its own"),
        (["space=perspective", "box=null"], "see what is behind their mean"),
        (['field.box={"low":[0,0,0],"high":[1,1,1]}'], "field.box: the field is in the scene's box"),
        (["forward_model.near=1.0"], "forward_model.near=1.0: it is the scene's; give dataset.near_far instead"),
        (["forward_model.background=white"], "give dataset.background instead"),
        (['box={"low":[50,50,50],"high":[51,51,51]}'], "no camera of .* sees any of it"),
    ],
)
def test_what_does_not_go_together_is_refused(words, message, balls_scene):
    with pytest.raises(UserError, match=message):
        config = settings(balls_scene, BOX, *words)
        scene = load_scene(config)
        place = find_place(config, scene)
        placed_field(config, place)
        pixel_table(scene, placed_renderer(config, place, scene).settings)
