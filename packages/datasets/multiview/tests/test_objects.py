"""OmniObject3D's and SRN's objects, in the layouts that are published."""

import pytest
from goembed_core.errors import UserError
from goembed_multiview_datasets.config import OmniObjectConfig, SrnConfig
from goembed_multiview_datasets.objects import omniobject3d, srn


@pytest.fixture
def omni(tmp_path, room):
    for category in ("anise", "box"):
        for number in range(3):
            folder = tmp_path / category / f"{category}_{number:03}"
            room.omniobject(folder, room.shots(3, 20, 20, seed=number, centred=True))
    return tmp_path


def test_omniobject(omni, room):
    objects = omniobject3d(OmniObjectConfig(path=omni))
    assert objects.names == [f"{category}_{number:03}" for category in ("anise", "box") for number in range(3)]
    for found in objects:
        assert found.images.shape == (3, 3, 20, 20) and found.near_far.tolist() == [[2.0, 6.0]] * 3
        room.require_right(found)
    assert omniobject3d(OmniObjectConfig(path=omni / "box")).names == ["box_000", "box_001", "box_002"]
    assert omniobject3d(OmniObjectConfig(path=omni / "box" / "box_001")).names == ["box_001"]


def test_whole_objects_are_held_out(omni):
    train, test = (omniobject3d(OmniObjectConfig(path=omni, split=split, holdout=4)) for split in ("train", "test"))
    assert test.names == ["anise_000", "box_001"] and train.names == ["anise_001", "anise_002", "box_000", "box_002"]
    with pytest.raises(UserError, match="holds 1 objects, none of them of the split train"):
        omniobject3d(OmniObjectConfig(path=omni / "box" / "box_001", split="train"))


def test_omniobjects_that_lack_something(omni, tmp_path):
    image = omni / "box" / "box_001" / "render" / "images" / "r_1.png"
    image.unlink()
    with pytest.raises(UserError, match=r"transforms\.json: frame 1 \(r_1\): its image \S*images/r_1 is not there"):
        omniobject3d(OmniObjectConfig(path=omni / "box"))[1]
    with pytest.raises(UserError, match=r"holds no <object>/render/transforms\.json; give `path` the folder of Omni"):
        omniobject3d(OmniObjectConfig(path=image.parent))
    with pytest.raises(UserError, match="no scenes given: set `path` to the folder of OmniObject3D's blender renders"):
        omniobject3d(OmniObjectConfig())


@pytest.fixture
def cars(tmp_path, room):
    for split, count in (("train", 2), ("test", 1)):
        for number in range(count):
            room.srn(tmp_path / f"cars_{split}" / f"{split}{number}", room.shots(3, 16, 16, seed=number, centred=True))
    return tmp_path


def test_srn(cars, room):
    found = srn(SrnConfig(path=cars))
    assert found.names == ["train0", "train1"] and srn(SrnConfig(path=cars, split="test")).names == ["test0"]
    for scene in found:
        room.require_right(scene)
        assert (scene.near_far == scene.near_far.new_tensor([0.8, 1.8])).all()
    (cars / "cars_train").rename(cars / "chairs_train")
    chairs = srn(SrnConfig(path=cars / "chairs_train"))
    assert chairs[0].near_far[0].tolist() == [1.25, 2.75]
    (cars / "chairs_train").rename(cars / "boats_train")
    with pytest.raises(UserError, match=r"boats_train: is of neither cars nor chairs, .*; set `near_far`"):
        srn(SrnConfig(path=cars))
    assert srn(SrnConfig(path=cars, near_far=(1.0, 2.0)))[1].near_far[2].tolist() == [1.0, 2.0]


def test_srn_at_half_the_size(cars, room):
    shots = [shot._replace(fx=shot.fx / 2, fy=shot.fy / 2, cx=4, cy=4, width=8, height=8) for shot in
             room.shots(3, 16, 16, centred=True)]  # fmt: skip
    for number, shot in enumerate(shots):
        room.save(cars / "cars_train" / "train0" / "rgb" / f"{number:06}.png", room.photograph(shot))
    room.require_right(srn(SrnConfig(path=cars))[0])


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("intrinsics.txt", "16. 8. 8.\n", r"intrinsics\.txt: expected 'f cx cy 0' on the first line"),
        ("intrinsics.txt", "-1. 8. 8. 0.\n0\n1\n16 16\n", "focal length and the size have to be positive"),
        ("intrinsics.txt", "16. 8. 8. 0.\n0\n1\n16 32\n", "the image is 16x16 pixels, its camera is of one of 32x16"),
        ("pose/000001.txt", "1 0 0 0", r"000001\.txt: holds 4 numbers, expected 16"),
        ("pose/000001.txt", "one", r"000001\.txt: expected 16 numbers .*'one'"),
        ("pose/000001.txt", " ".join(["1"] * 16), r"000001\.txt: the last row of camera_to_world"),
        ("pose/000001.txt", None, r"000001\.txt: cannot be read .*No such file"),
    ],
)
def test_srn_that_is_wrong(cars, file, text, error):
    path = cars / "cars_train" / "train0" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=error):
        srn(SrnConfig(path=cars))[0]


def test_folders_that_are_not_srns(tmp_path):
    with pytest.raises(UserError, match=r"holds no objects with intrinsics\.txt in a folder that ends in _train"):
        srn(SrnConfig(path=tmp_path))
