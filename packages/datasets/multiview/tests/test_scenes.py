"""What all sets of posed views share: which views an item has, and batches of them."""

import pytest
import torch
from goembed_core.errors import UserError
from goembed_multiview_datasets.blender import blender
from goembed_multiview_datasets.config import BlenderConfig
from goembed_multiview_datasets.pictures import part_of_shape, resize_area
from pydantic import ValidationError


def dataset(path, **settings):
    return blender(BlenderConfig(path=path, split="all", **settings))


@pytest.fixture
def scenes(tmp_path, room):
    for number, name in enumerate(("b", "a", "c")):
        (tmp_path / name).mkdir()
        room.transforms(tmp_path / name, room.shots(4 + number, seed=number))
    return tmp_path


def test_items_are_scenes_by_name(scenes):
    found = dataset(scenes)
    assert found.names == ["a", "b", "c"] and [len(item.images) for item in found] == [5, 4, 6]


def test_views_are_drawn_by_the_items_number(scenes, room):
    found = dataset(scenes, views=3, draws=40)
    assert len(found) == 120 and found.names[:4] == ["a", "b", "c", "a"]
    assert [found.chosen(index) for index in range(9)] == [dataset(scenes, views=3).chosen(index) for index in range(9)]
    chosen = [tuple(found.chosen(index)) for index in range(0, 120, 3)]
    assert all(len(set(views)) == 3 for views in chosen) and len(set(chosen)) > 20
    assert {view for views in chosen for view in views} == set(range(5))
    assert chosen != [tuple(dataset(scenes, views=3, seed=1).chosen(index)) for index in range(0, 120, 3)]
    whole = dataset(scenes)[0].images
    assert torch.equal(found[3].images, whole[found.chosen(3)])
    room.require_right(found[4])


def test_views_are_drawn_from_a_window(scenes):
    found = dataset(scenes, views=2, window=3, draws=200)
    chosen = [found.chosen(index) for index in range(2, 600, 3)]  # of the scene with 6 views
    assert {max(views) - min(views) for views in chosen} == {1, 2}
    assert {view for views in chosen for view in views} == set(range(6))


def test_a_batch(scenes, room):
    found = dataset(scenes, views=3, size=(12, 8))
    values, params = found.observations(torch.tensor([2, 0]))
    assert values.shape == (2, 3, 3, 8, 12) and params.pixels.shape == (2, 3, 8, 12, 2)
    assert params.image_size.tolist() == [[[12.0, 8.0]] * 3] * 2
    assert params.pixels[1, 2, 4, 6].tolist() == [6.5, 4.5]
    for row, item in enumerate((2, 0)):
        assert torch.equal(values[row], found[item].images)
        assert torch.equal(params.camera.camera_to_world[row], found[item].camera.camera_to_world)


def test_scenes_that_make_no_batch(scenes, room):
    found = dataset(scenes)
    assert not found.conformance.equal_shapes
    with pytest.raises(UserError, match=r"b: its views are \(4, 3, 16, 24\), those of a \(5, .*set `size` and `views`"):
        found.observations(torch.tensor([0, 1]))
    with pytest.raises(
        UserError, match=r"^a: has 5 views in this split \(views=6 was asked for; so have 2 of 3 scenes\)"
    ):
        dataset(scenes, views=6)
    with pytest.raises(UserError, match=r"^a: has 5 views .*window=9 .* 3 of 3 scenes\); ask for fewer"):
        dataset(scenes, views=6, window=9, on_missing="skip")
    assert dataset(scenes, views=5, on_missing="skip").names == ["a", "c"]
    room.save(scenes / "a" / "images" / "transforms_002.png", room.photograph(room.shots(1, 48, 32)[0]))
    with pytest.raises(UserError, match=r"frame 2 .*: it and .*frame 0 .* of 48x32 pixels and 24x16 pixels; set"):
        found[0]


@pytest.mark.parametrize(
    "wrong", [{"draws": 2}, {"window": 3}, {"views": 4, "window": 3}, {"near_far": (3.0, 2.0)}, {"size": 0}]
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ValidationError):
        BlenderConfig(**wrong)


@pytest.mark.parametrize(("old", "new"), [(12, 4), (12, 5), (7, 3), (5, 5), (3, 7)])
def test_resizing_by_area(old, new):
    image = torch.rand(2, old, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fine = image.repeat_interleave(new, 1)  # old * new rows, of which `old` make one new row
    expected = fine.reshape(2, new, old, 6).mean(2)
    assert torch.allclose(resize_area(image, (6, new)), expected)
    assert torch.allclose(resize_area(image.mT, (new, 6)), expected.mT)


@pytest.mark.parametrize(
    ("stored", "size", "part"),
    [
        ((16, 24), (8, 8), (4, 0, 16, 16)),
        ((24, 16), (8, 8), (0, 4, 16, 16)),
        ((16, 24), (12, 8), (0, 0, 24, 16)),
        ((10, 100), (100, 50), (40, 0, 20, 10)),
        ((3, 3), (100, 1), (0, 1, 3, 1)),
    ],
)
def test_the_largest_centred_part(stored, size, part):
    assert part_of_shape(*stored, size) == part
