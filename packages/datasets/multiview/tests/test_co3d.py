"""CO3D's annotations, of both versions."""

import gzip
import json

import pytest
from goembed_core.errors import UserError
from goembed_multiview_datasets.co3d import co3d
from goembed_multiview_datasets.config import Co3dConfig


@pytest.fixture
def category(tmp_path, room):
    room.co3d(tmp_path, "hydrant", {f"10{n}_2_3": room.shots(6, 24, 32, seed=n) for n in range(3)})
    return tmp_path / "hydrant"


def dataset(path, **settings):
    return co3d(Co3dConfig(path=path, **{"split": "all"} | settings))


def change(path, edit):
    with gzip.open(path) as file:
        content = json.load(file)
    edit(content)
    with gzip.open(path, "wt") as file:
        json.dump(content, file)


@pytest.mark.parametrize("version", [1, 2])
def test_images_are_what_the_cameras_see(tmp_path, room, version):
    room.co3d(tmp_path, "apple", {"1_2_3": room.shots(4, 32, 24)}, version=version)
    room.co3d(tmp_path, "vase", {"4_5_6": room.shots(3, 24, 32, seed=1)}, version=version)
    found = dataset(tmp_path)
    assert found.names == ["apple/1_2_3", "vase/4_5_6"]
    for scene in found:
        room.require_right(scene, 0.02)  # as far as JPEG goes
        distance = scene.camera.camera_to_world[:, :3, 3].norm(dim=-1)
        assert (scene.near_far[:, 0] == 0.1).all() and (scene.near_far[:, 1] - distance - 8).abs().max() < 1e-5
    room.require_right(dataset(tmp_path, size=12)[0], 0.03)


def test_splits_are_those_of_a_list(category):
    assert dataset(category).names == ["hydrant/100_2_3", "hydrant/101_2_3", "hydrant/102_2_3"]
    everything, train, test = (dataset(category, split=split)[1].images for split in ("all", "train", "test"))
    assert (train == everything[[0, 1, 3, 4]]).all() and (test == everything[[2, 5]]).all()
    with pytest.raises(UserError, match="has no sequence in split=val of set_list=fewview_dev"):
        dataset(category, split="val")
    with pytest.raises(
        UserError, match=r"set_lists_manyview\.json: no such list; set `set_list` to one of fewview_dev"
    ):
        dataset(category, split="train", set_list="manyview")


def test_the_best_cameras(category):
    assert dataset(category, sequences=2).names == ["hydrant/101_2_3", "hydrant/102_2_3"]
    assert len(dataset(category, sequences=9)) == 3  # the one without a score comes last
    (category / "sequence_annotations.jgz").unlink()
    with pytest.raises(UserError, match=r"sequence_annotations\.jgz: cannot be read as JSON in gzip"):
        dataset(category, sequences=2)


def test_masks(category):
    whole, masked = dataset(category)[0], dataset(category, masks=True, background="black")[0]
    assert (whole.alpha == 1).all() and masked.alpha[..., :12].eq(1).all() and masked.alpha[..., 12:].eq(0).all()
    assert (masked.images == whole.images * masked.alpha).all()
    mask = category / "102_2_3" / "masks" / "frame000002.png"
    mask.unlink()
    with pytest.raises(UserError, match=r"frame 2 of hydrant/102_2_3: its mask \S*frame000002\.png is not there"):
        dataset(category, masks=True)[2]
    assert len(dataset(category)[2].images) == 6


WRONG = {
    "no viewpoint": (
        lambda e: e.pop("viewpoint"),
        r"entry \d+ is no annotation of a frame \(KeyError\('viewpoint'\)\)",
    ),
    "no size": (lambda e: e["image"].update(size=[0, 0]), r"entry \d+ is no annotation of a frame"),
    "no camera": (lambda e: e["viewpoint"].pop("T"), r"frame 3 of hydrant/100_2_3: its viewpoint has no R"),
    "another camera": (lambda e: e["viewpoint"].update(R=[1, 2, 3]), r"its viewpoint has no R \(3x3\).*\(3,\)"),
    "a mirrored camera": (
        lambda e: e["viewpoint"].update(R=[[-x for x in row] for row in e["viewpoint"]["R"]]),
        r"frame 3 of hydrant/100_2_3: the rotation is a mirror image",
    ),
    "another NDC": (lambda e: e["viewpoint"].update(intrinsics_format="pixels"), r"intrinsics_format: ndc='pixels'"),
    "another size": (lambda e: e["image"].update(size=[24, 32]), r"frame 3 .*: the image is 24x32 pixels, its camera"),
    "no image": (lambda e: e["image"].update(path="hydrant/x.jpg"), r"frame 3 .*: its image \S*x\.jpg is not there"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_annotations_that_cannot_be(category, wrong):
    edit, text = WRONG[wrong]

    def of_one(content):
        edit(next(e for e in content if (e["sequence_name"], e["frame_number"]) == ("100_2_3", 3)))

    change(category / "frame_annotations.jgz", of_one)
    with pytest.raises(UserError, match=rf"frame_annotations\.jgz: .*{text}"):
        dataset(category)[0]


def test_files_that_are_no_annotations(category, tmp_path):
    file = category / "frame_annotations.jgz"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"[]", gzip.compress(b"[{]")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"frame_annotations\.jgz: cannot be read as JSON in gzip"):
            dataset(category)
    file.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(UserError, match=r"frame_annotations\.jgz: holds no list of annotations"):
        dataset(category)
    with pytest.raises(UserError, match=r"holds no frame_annotations\.jgz; give `path` the folder of CO3D"):
        dataset(category / "set_lists")


def test_bombs_are_refused(category, monkeypatch):
    monkeypatch.setattr("goembed_multiview_datasets.co3d.MAX_BYTES", 1000)
    with pytest.raises(UserError, match="unpacks to more than 1000 bytes, which no annotations have"):
        dataset(category)
