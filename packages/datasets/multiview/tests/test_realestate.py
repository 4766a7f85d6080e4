"""RealEstate10k's clips, with frames from a folder and out of a video."""

import pickle
import shutil

import pytest
import torch
from goembed_core.errors import UserError
from goembed_multiview_datasets.config import RealEstateConfig
from goembed_multiview_datasets.realestate import realestate10k
from pydantic import ValidationError


@pytest.fixture
def clips(tmp_path, room):
    """Two clips of one video for training, one of another for the test."""
    for split, clip, video, seed in (("train", "0a", "one", 0), ("train", "0b", "one", 1), ("test", "0c", "two", 2)):
        shots = room.shots(5, 32, 18, seed=seed)
        first = 1500 if clip == "0b" else 200
        stamps = room.realestate(tmp_path / "cameras" / split / f"{clip}.txt", shots, video, first)
        for stamp, shot in zip(stamps, shots, strict=True):
            room.save(tmp_path / "frames" / split / clip / f"{stamp}.png", room.photograph(shot))
    return tmp_path


def dataset(clips, **settings):
    settings = {"frames": clips / "frames"} | settings
    return realestate10k(RealEstateConfig(path=clips / "cameras", **settings))


def edit(path, line, change):
    lines = path.read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    path.write_text("\n".join(lines) + "\n")


def test_images_are_what_the_cameras_see(clips, room):
    found = dataset(clips)
    assert found.names == ["0a", "0b"] and dataset(clips, split="all").names == ["0a", "0b", "0c"]
    for scene in dataset(clips, split="all"):
        assert scene.images.shape == (5, 3, 18, 32) and scene.near_far.tolist()[0] == pytest.approx([0.7, 10.0])
        room.require_right(scene)
    alone = realestate10k(RealEstateConfig(path=clips / "cameras" / "test", frames=clips / "frames" / "test"))
    assert torch.equal(alone[0].images, dataset(clips, split="test")[0].images)


def test_frames_of_a_video(clips, room):
    """Frames before, between and after the two clips belong to neither of them."""
    blank = room.photograph(room.shots(1, 32, 18, seed=9)[0])
    first, second = (room.shots(5, 32, 18, seed=seed) for seed in (0, 1))
    pictures = [blank] * 2 + [room.photograph(shot) for shot in first]
    pictures += [blank] * (15 - len(pictures)) + [room.photograph(shot) for shot in second]
    room.video(clips / "videos" / "one.mp4", pictures)
    settings = {"frames": None, "videos": clips / "videos", "index": clips / "index"}
    found = dataset(clips, **settings)
    for scene, other in zip(found, dataset(clips), strict=True):
        room.require_right(scene)
        assert torch.equal(scene.images, other.images)
    drawn = dataset(clips, views=2, draws=4, **settings)
    assert torch.equal(pickle.loads(pickle.dumps(drawn))[5].images, dataset(clips)[1].images[drawn.chosen(5)])
    room.video(clips / "videos" / "one.mp4", pictures[:18])
    with pytest.raises(
        UserError, match=r"0b\.txt: no frame of \S*one\.mp4 is shown at 1\.900 s, .* 0\.20 s off: is it"
    ):
        dataset(clips, **settings)[1]
    with pytest.raises(
        UserError, match=r"0c\.txt: its frames are not there \(\S*videos/two\.mp4\); fetch them, or set"
    ):
        dataset(clips, split="test", **settings)
    assert dataset(clips, split="all", on_missing="skip", **settings).names == ["0a", "0b"]


def test_frames_that_are_missing(clips, room):
    for stamp in (1600000, 1700000):
        (clips / "frames" / "train" / "0b" / f"{stamp}.png").unlink()
    with pytest.raises(
        UserError, match=r"0b\.txt: line 3: its frame \S*1600000\.png is not there \(nor those of 1 oth"
    ):
        dataset(clips)
    found = dataset(clips, on_missing="skip")
    assert [len(scene.images) for scene in found] == [5, 3]
    room.require_right(found[1])
    assert dataset(clips, on_missing="skip", views=4).names == ["0a"]
    shutil.rmtree(clips / "frames" / "train")
    with pytest.raises(UserError, match="of none of its 2 clips there are frames; set `frames` or `videos`"):
        dataset(clips, on_missing="skip")


@pytest.mark.parametrize(
    ("line", "change", "text"),
    [
        (3, lambda text: text + " 1", "line 3: holds 20 numbers, expected 19 finite ones"),
        (3, lambda text: text[:-3] + "one", "line 3: expected 19 numbers"),
        (4, lambda text: " ".join([*text.split()[:5], "0.1", *text.split()[6:]]), "line 4: its lens is distorted"),
        (
            5,
            lambda text: " ".join([*text.split()[:7], *(f"{-float(v)}" for v in text.split()[7:])]),
            r"line 5 \(timestamp 500000\): the rotation is a mirror image",
        ),
    ],
)
def test_lines_that_cannot_be(clips, line, change, text):
    edit(clips / "cameras" / "train" / "0a.txt", line, change)
    with pytest.raises(UserError, match=rf"0a\.txt: {text}"):
        dataset(clips)[0]


def test_files_that_are_no_clips(clips, tmp_path):
    file = clips / "cameras" / "train" / "0a.txt"
    file.write_text("not an address\n1 2 3\n")
    with pytest.raises(
        UserError, match=r"0a\.txt: the first line is 'not an address', expected the address of a video"
    ):
        dataset(clips, frames=None, videos=tmp_path)
    file.write_text("https://www.youtube.com/watch?v=x\n")
    with pytest.raises(UserError, match=r"0a\.txt: has no cameras; expected"):
        dataset(clips)
    with pytest.raises(UserError, match=r"holds no <clip>\.txt in train; give `path` the folder of RealEstate10K"):
        realestate10k(RealEstateConfig(path=clips / "frames", frames=clips))


@pytest.mark.parametrize("wrong", [{}, {"frames": "a", "videos": "b"}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ValidationError, match="frames come from one place: set `frames` or `videos`"):
        RealEstateConfig(**wrong)
