"""`transforms.json`: splits, intrinsics in all their spellings, and files that are wrong."""

import json
import math

import numpy as np
import pytest
from goembed_core.errors import UserError
from goembed_multiview_datasets.blender import blender
from goembed_multiview_datasets.config import BlenderConfig
from pydantic import ValidationError


def dataset(path, **settings):
    return blender(BlenderConfig(path=path, **{"split": "all"} | settings))


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_images_are_what_the_cameras_see(tmp_path, room):
    room.transforms(tmp_path, room.shots(5))
    scenes = dataset(tmp_path)
    assert (len(scenes), scenes.names) == (1, [tmp_path.name])
    scene = scenes[0]
    assert scene.images.shape == (5, 3, 16, 24) and scene.alpha.shape == (5, 1, 16, 24) and (scene.alpha == 1).all()
    assert scene.near_far.tolist() == [[2.0, 6.0]] * 5
    room.require_right(scene)
    wrong = scene._replace(camera=scene.camera._replace(camera_to_world=scene.camera.camera_to_world.roll(1, 0)))
    with pytest.raises(AssertionError):
        room.require_right(wrong)


@pytest.mark.parametrize("size", [8, (12, 8), (6, 4), (20, 5), (7, 11)])
def test_cameras_are_resized_with_their_images(tmp_path, room, size):
    room.transforms(tmp_path, room.shots(3, width=96, height=64))
    scene = dataset(tmp_path, size=size)[0]
    width, height = (size, size) if isinstance(size, int) else size
    assert scene.images.shape == (3, 3, height, width)
    room.require_right(scene, 0.01)


def test_a_field_of_view_says_the_same(tmp_path, room):
    shots = room.shots(2, centred=True)

    def by_angle(content):
        for frame in content["frames"]:
            for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
                del frame[key]
        content["camera_angle_x"] = 2 * math.atan(0.5 * shots[0].width / shots[0].fx)

    room.transforms(tmp_path, shots)
    rewrite(tmp_path / "transforms.json", by_angle)
    room.require_right(dataset(tmp_path)[0])
    rewrite(tmp_path / "transforms.json", lambda content: content.update(camera_angle_y=0.3))
    focal = 0.5 * shots[0].height / math.tan(0.15)
    assert dataset(tmp_path)[0].camera.intrinsics[0, 1, 1].item() == pytest.approx(focal)


def test_images_smaller_than_the_file_says(tmp_path, room):
    shots = room.shots(2, width=48, height=32)
    room.transforms(tmp_path, shots)
    half = [shot._replace(**{key: getattr(shot, key) / 2 for key in ("fx", "fy", "cx", "cy")}) for shot in shots]
    for number, shot in enumerate(half):
        small = room.photograph(shot._replace(width=24, height=16))
        room.save(tmp_path / "images" / f"transforms_{number:03}.png", small)
    room.require_right(dataset(tmp_path)[0])
    room.save(tmp_path / "images" / "transforms_001.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(UserError, match=r"frame 1 \(.*\): the image is 20x20 pixels, its camera is of one of 48x32"):
        dataset(tmp_path)[0]


def test_splits_by_files(tmp_path, room):
    shots = room.shots(6)
    room.transforms(tmp_path, shots[:3], "transforms_train.json")
    room.transforms(tmp_path, shots[3:4], "transforms_test.json")
    assert [len(dataset(tmp_path, split=split)[0].images) for split in ("train", "test", "all")] == [3, 1, 4]
    with pytest.raises(UserError, match=r"has no transforms_val\.json, but splits train, test; ask for these"):
        dataset(tmp_path, split="val")


def test_splits_of_a_single_file(tmp_path, room):
    room.transforms(tmp_path, room.shots(7))
    everything, train, test = (
        dataset(tmp_path, split=split, holdout=3)[0].camera.camera_to_world for split in ("all", "train", "test")
    )
    assert (test == everything[[0, 3, 6]]).all() and (train == everything[[1, 2, 4, 5]]).all()
    assert len(dataset(tmp_path / "transforms.json")[0].images) == 7
    with pytest.raises(UserError, match="a single file has no split val; ask for train, test or all"):
        dataset(tmp_path, split="val")


def test_names_without_a_suffix(tmp_path, room):
    def bare(content):
        for frame in content["frames"]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

    room.transforms(tmp_path, room.shots(2))
    rewrite(tmp_path / "transforms.json", bare)
    room.require_right(dataset(tmp_path)[0])


def test_transparent_pixels_lie_on_the_background(tmp_path, room):
    shots = room.shots(1)
    room.transforms(tmp_path, shots)
    colour = room.photograph(shots[0])
    opacity = np.zeros((16, 24, 1), np.uint8)
    opacity[:, :12], opacity[:, 12:16] = 255, 51
    room.save(tmp_path / "images" / "transforms_000.png", np.concatenate([colour, opacity], 2))
    white, black = (dataset(tmp_path, background=background)[0] for background in ("white", "black"))
    alpha, expected = opacity.transpose(2, 0, 1) / 255, colour.transpose(2, 0, 1) / 255
    for scene, background in ((white, 1.0), (black, 0.0)):
        assert np.allclose(scene.alpha[0], alpha, atol=1e-6)
        assert np.allclose(scene.images[0], alpha * expected + (1 - alpha) * background, atol=1e-6)
    small = dataset(tmp_path, background="black", size=(3, 2))[0]  # colours of transparent pixels do not bleed
    assert np.allclose(small.alpha[0, 0], [[1, 0.6, 0]] * 2, atol=1e-6)
    blocks = (alpha * expected).reshape(3, 2, 8, 3, 8).mean((2, 4))
    assert np.allclose(small.images[0], blocks, atol=1e-6)


WRONG = {
    "a mirrored camera": (
        lambda f: f.update(transform_matrix=(np.array(f["transform_matrix"]) @ np.diag([1, 1, -1, 1])).tolist()),
        r"frame 1 \(images/transforms_001\.png\): the rotation is a mirror image",
    ),
    "a camera with a scale": (
        lambda f: f.update(transform_matrix=(np.array(f["transform_matrix"]) @ np.diag([2, 2, 2, 1])).tolist()),
        r"frame 1 .*: the rotation is not orthonormal: is there a scale in it\?",
    ),
    "a matrix of another shape": (
        lambda f: f.update(transform_matrix=[[1, 2], [3, 4]]),
        r"frame 1 .*: transform_matrix is no 4x4 matrix of numbers",
    ),
    "a matrix of words": (lambda f: f.update(transform_matrix="eye"), r"frame 1 .*: transform_matrix is no 4x4"),
    "no focal length": (
        lambda f: [f.pop(key) for key in ("fl_x", "fl_y")],
        r"frame 1 .*: neither camera_angle_x nor fl_x says how wide",
    ),
    "a distorted lens": (lambda f: f.update(k1=0.1), r"frame 1 .*: its lens is distorted \(k1=0.1\).*undistort"),
    "a fisheye": (lambda f: f.update(camera_model="OPENCV_FISHEYE"), r"distorted \(camera_model OPENCV_FISHEYE\)"),
    "a number that is none": (lambda f: f.update(cx="12"), r"frame 1 .*: cx is '12', expected a number"),
    "an angle in degrees": (
        lambda f: [f.pop("fl_x"), f.update(camera_angle_x=40)],
        r"frame 1 .*: camera_angle_x is 40, expected radians between 0 and pi",
    ),
    "normalised intrinsics": (lambda f: f.update(fl_x=1.1), r"frame 1 .*: the focal length is below 2 pixels"),
    "no image": (
        lambda f: f.update(file_path="images/gone"),
        r"frame 1 \(images/gone\): its image \S*images/gone is not there",
    ),
    "no name": (lambda f: f.pop("file_path"), r'frame 1 has no "file_path"'),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_frames_that_cannot_be(tmp_path, room, wrong):
    change, text = WRONG[wrong]
    room.transforms(tmp_path, room.shots(3))
    rewrite(tmp_path / "transforms.json", lambda content: change(content["frames"][1]))
    with pytest.raises(UserError, match=rf"transforms\.json: {text}" if text.startswith("frame") else text):
        dataset(tmp_path)[0]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"frames": []}', '{"frames": 3}'])
def test_files_that_list_no_frames(tmp_path, text):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(UserError, match=r"transforms\.json: (cannot be read as JSON|has no list \"frames\")"):
        dataset(tmp_path)


def test_folders_without_scenes(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"holds no transforms.json; give `path` the folder of a scene"):
        dataset(tmp_path)
    with pytest.raises(UserError, match="no such file or folder; give `path` the folder of a scene"):
        dataset(tmp_path / "none")
    monkeypatch.delenv("GOEMBED_DATA", raising=False)
    with pytest.raises(UserError, match=r"no scenes given: set `path` to .* GOEMBED_DATA to the folder that holds"):
        dataset(None)
    monkeypatch.setenv("GOEMBED_DATA", str(tmp_path))
    with pytest.raises(UserError, match="has no folder nerf_lego; put it there"):
        dataset(None)


def test_a_damaged_image_is_named(tmp_path, room):
    room.transforms(tmp_path, room.shots(2))
    image = tmp_path / "images" / "transforms_001.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(UserError, match=r"transforms_001\.png: is damaged or truncated"):
        dataset(tmp_path)[0]


def test_settings_need_bounds():
    with pytest.raises(ValidationError, match="does not say how far its scenes are"):
        BlenderConfig(near_far=None)
