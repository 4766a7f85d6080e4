"""LLFF's folders: sizes, bounds, held-out views, and files that are wrong."""

import numpy as np
import pytest
from goembed_core.errors import UserError
from goembed_multiview_datasets.config import LlffConfig
from goembed_multiview_datasets.llff import llff


def dataset(path, **settings):
    return llff(LlffConfig(path=path, **{"split": "all", "factor": 1} | settings))


@pytest.fixture
def scene(tmp_path, room):
    room.llff(tmp_path, room.shots(9, width=96, height=64, centred=True), reductions=(1, 4))
    return tmp_path


@pytest.mark.parametrize(("factor", "shape"), [(1, (64, 96)), (4, (16, 24)), (2, (32, 48)), (5, (12, 19))])
def test_images_are_what_the_cameras_see(scene, room, factor, shape):
    found = dataset(scene, factor=factor)[0]
    assert found.images.shape == (9, 3, *shape)
    room.require_right(found, 0.004 if factor in (1, 4) else 0.01)


def test_bounds_are_distances(scene):
    corner = np.hypot(1, np.hypot(48, 32) / (1.1 * 96))
    for factor in (1, 4):
        assert np.allclose(dataset(scene, factor=factor)[0].near_far, [2.0, 11.0 * corner], atol=1e-5)
    assert dataset(scene, near_far=(1.0, 20.0))[0].near_far[3].tolist() == [1.0, 20.0]


def test_every_so_manieth_view_is_held_out(scene):
    everything, train, test = (
        dataset(scene, split=split, holdout=4)[0].camera.camera_to_world for split in ("all", "train", "test")
    )
    assert (test == everything[[0, 4, 8]]).all() and (train == everything[[1, 2, 3, 5, 6, 7]]).all()


def test_folders_of_scenes(tmp_path, room):
    for number, name in enumerate(("room", "attic")):
        (tmp_path / name).mkdir()
        room.llff(tmp_path / name, room.shots(3, seed=number, centred=True))
    scenes = dataset(tmp_path)
    assert scenes.names == ["attic", "room"]
    for found in scenes:
        room.require_right(found)


def test_an_image_too_few(scene):
    (scene / "images" / "IMG_4003.png").unlink()
    with pytest.raises(UserError, match=r"poses_bounds\.npy: has 9 cameras for the 8 images of \S*images; put the"):
        dataset(scene)


def test_images_of_another_shape(scene, room):
    room.save(scene / "images" / "IMG_4003.png", np.zeros((96, 64, 3), np.uint8))
    with pytest.raises(UserError, match=r"poses_bounds\.npy: row 3 \(IMG_4003\.png\): the image is 64x96 pixels"):
        dataset(scene)[0]


def test_a_factor_that_is_not_there(scene):
    (scene / "images").rename(scene / "images_2")
    with pytest.raises(UserError, match="has neither images_8 nor images for factor=8, but images_2, images_4; set"):
        dataset(scene, factor=8)


def test_bounds_that_cannot_be(scene):
    rows = np.load(scene / "poses_bounds.npy")
    rows[2, 15:] = 5.0, 4.0
    np.save(scene / "poses_bounds.npy", rows)
    with pytest.raises(UserError, match=r"row 2 .*: its bounds are 5 and 4, expected 0 < near < far; set `near_far`"):
        dataset(scene)[0]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (np.zeros((3, 16)), r"is float64 of shape \(3, 16\); expected numbers of \(views, 17\)"),
        (np.array([{"a": 1}]), "cannot be read as an array .*allow_pickle=False"),
        (np.zeros((3, 17)), "has no views, or some without size"),
        (np.zeros((0, 17)), "has no views"),
    ],
)
def test_arrays_that_are_no_cameras(scene, rows, text):
    np.save(scene / "poses_bounds.npy", rows)
    with pytest.raises(UserError, match=rf"poses_bounds\.npy: {text}"):
        dataset(scene)


def test_an_archive_is_no_array(scene):
    with (scene / "poses_bounds.npy").open("wb") as file:
        np.savez(file, rows=np.zeros((3, 17)))
    with pytest.raises(UserError, match=r"poses_bounds\.npy: is an archive of arrays; expected"):
        dataset(scene)


def test_folders_without_scenes(tmp_path):
    with pytest.raises(UserError, match=r"holds no poses_bounds.npy; give `path` the folder of a scene"):
        dataset(tmp_path)
