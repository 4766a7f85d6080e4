"""Pairs of frames: which ones are drawn, from which clips, in which shape they come."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_video_datasets import indices as kept_indices
from goembed_video_datasets.config import VideosConfig
from goembed_video_datasets.frames import Square, centre_square, cut, random_square
from goembed_video_datasets.sources import natural
from goembed_video_datasets.videos import VideoDataset
from PIL import Image
from pydantic import ValidationError
from torch.utils.data import DataLoader


def videos(path, **settings):
    return VideoDataset(VideosConfig(path=path, **{"size": 16, "split": "all"} | settings))


def names(dataset):
    return list(dict.fromkeys(dataset.window(item).clip for item in range(len(dataset))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_video):
    """Three videos, one deeper down, and things that are none."""
    root = tmp_path_factory.mktemp("clips")
    (root / "b" / "deep").mkdir(parents=True)
    for number, name in enumerate(("clip10.mp4", "clip9.MKV", "b/deep/x.avi")):
        write_video(root / name, offset=number, codec="mpeg4" if name.endswith("avi") else "libx264")
    Image.new("RGB", (8, 8)).save(root / "still.png")
    (root / "notes.txt").write_text("no video")
    (root / "._clip9.mkv").write_bytes(b"what an archiver leaves behind")
    return root


def test_a_folder_is_read_recursively_in_natural_order(folder):
    clips = videos(folder)
    assert clips.source.names == ["b/deep/x.avi", "clip9.MKV", "clip10.mp4"]
    assert len(clips) == 3 * 10 and names(clips) == clips.source.names
    assert names(videos(folder / "clip10.mp4")) == ["clip10.mp4"]
    assert sorted(["im10", "im9", "Im1", "a"], key=natural) == ["a", "Im1", "im9", "im10"]


def test_an_item_shows_the_frames_that_its_window_names(folder, write_frames, tmp_path):
    clips = videos(write_frames(tmp_path / "clip", 12), size=32, layout="frames")
    for item in (0, 3, 9, -1):
        window, found = clips.window(item), clips[item]
        for number, values in zip(window.frames, found.values, strict=True):
            picture = np.asarray(Image.open(tmp_path / "clip" / f"im{number + 1}.png").crop((8, 0, 40, 32)))
            assert np.allclose(values, picture.transpose(2, 0, 1) / 127.5 - 1, atol=1e-5)
        first, last, between = window.times
        assert found.params.time.tolist() == pytest.approx([0, 1, (between - first) / (last - first)])


@pytest.mark.parametrize("frames", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 3])
def test_windows(tmp_path, write_frames, frames, stride):
    clips = videos(write_frames(tmp_path / "clip", 30), frames=frames, window_frames=6, stride=stride)
    gaps, starts = set(), []
    for item in range(len(clips)):
        first, last, *between = clips.window(item).frames
        starts.append(first)
        gaps.add(last - first)
        assert first < last <= min(29, first + 6) and between == sorted(set(between)) and len(between) == frames - 2
        assert all(first < number < last for number in between)
    assert starts == list(range(0, 30 - frames + 1, stride))
    assert gaps == set(range(frames - 1, 7)) or stride == 3
    again = videos(tmp_path / "clip", frames=frames, stride=stride)
    assert [clips.window(i) for i in range(len(clips))] == [again.window(i) for i in range(len(again))]
    other = videos(tmp_path / "clip", frames=frames, stride=stride, seed=1)
    assert [clips.window(i) for i in range(len(clips))] != [other.window(i) for i in range(len(other))]


def test_windows_in_seconds_go_by_the_times_of_the_file(tmp_path, write_video):
    ticks = [0, 10, 20, 30, 40, 140, 141, 142, 143, 144, 145, 240]
    write_video(tmp_path / "a.mkv", ticks=ticks)
    clips = videos(tmp_path, window_s=0.2)
    found = [clips.window(item) for item in range(len(clips))]
    assert [window.frames[0] for window in found] == [0, 1, 2, 5, 6, 7, 8]
    for window, item in zip(found, clips, strict=True):
        first, last, between = window.times
        assert 0 < last - first < 0.2002 and window.times == pytest.approx([ticks[n] / 100 for n in window.frames])
        assert item.params.time[2] == pytest.approx((between - first) / (last - first), abs=1e-6)
    reached = {seed: videos(tmp_path, window_s=0.2, seed=seed).window(3).frames[1] for seed in range(30)}
    assert set(reached.values()) == {7, 8, 9, 10}


def test_pictures_have_times_only_by_fps(tmp_path, write_frames):
    write_frames(tmp_path / "clip", 10)
    with pytest.raises(UserError, match=r"window_s=0.5: pictures have no times; set `fps`, or use `window_frames`"):
        videos(tmp_path, window_s=0.5)
    clips = videos(tmp_path, window_s=0.5, fps=10)
    assert {clips.window(item).frames[1] - item for item in range(5)} <= {2, 3, 4, 5}
    assert clips.window(4).times[0] == pytest.approx(0.4)


def vimeo(root, write_frames, prefix="sep", frames=7):
    for number, name in enumerate(("00001/0001", "00001/0002", "00002/0001")):
        write_frames(root / "sequences" / name, frames, offset=10 * number)
    (root / f"{prefix}_trainlist.txt").write_text("00001/0001\n00002/0001\n")
    (root / f"{prefix}_testlist.txt").write_text("00001/0002\n\n")
    return root


@pytest.mark.parametrize(("prefix", "frames"), [("sep", 7), ("tri", 3)])
def test_vimeo(tmp_path, write_frames, frame_of, prefix, frames):
    root = vimeo(tmp_path, write_frames, prefix, frames)
    assert names(videos(root, split="train")) == ["00001/0001", "00002/0001"]  # its own lists: nothing else held out
    assert names(videos(root, split="test", holdout_clips=0.5)) == ["00001/0002"]
    assert names(videos(root)) == ["00001/0001", "00002/0001", "00001/0002"]
    clips = videos(root, split="test", size=32)
    assert len(clips) == frames - 2
    first = clips[0]
    assert np.allclose(first.values[0], frame_of(10)[:, 8:40].transpose(2, 0, 1) / 127.5 - 1, atol=1e-5)
    assert clips.window(0).frames[0] == 0 and max(clips.window(0).frames) < frames


def test_vimeo_that_is_not_whole(tmp_path, write_frames):
    root = vimeo(tmp_path, write_frames)
    shutil.rmtree(root / "sequences" / "00002")
    clips = videos(root, split="train")
    with pytest.raises(UserError, match=r"00002/0001/im\d\.png: cannot be read \(No such file.*\(item 7\)"):
        clips[7]
    assert names(videos(root, split="train", on_error="skip")) == ["00001/0001"]
    (root / "sep_testlist.txt").write_text("00001/0002\n../../etc\n")
    with pytest.raises(UserError, match=r"sep_testlist.txt: entry 2 is '../../etc', expected a sequence as 00001/0001"):
        videos(root, split="test")
    (root / "sep_testlist.txt").write_text("\n")
    with pytest.raises(UserError, match=r"sep_testlist.txt: names no sequence"):
        videos(root, split="test")
    (root / "sep_testlist.txt").unlink()
    with pytest.raises(UserError, match=r"sep_testlist.txt: cannot be read"):
        videos(root, split="test")
    with pytest.raises(UserError, match=r"has no list of Vimeo-90K \(sep_trainlist.txt or tri_trainlist.txt\)"):
        videos(root / "sequences", layout="vimeo90k")


def test_clips_are_held_out_by_name(tmp_path, write_frames):
    for number in range(40):
        write_frames(tmp_path / f"clip{number}", 3)
    parts = {part: set(names(videos(tmp_path, split=part, holdout_clips=0.3))) for part in ("train", "test", "all")}
    assert parts["train"] | parts["test"] == parts["all"] and not parts["train"] & parts["test"]
    assert 6 <= len(parts["test"]) <= 18
    more = set(names(videos(tmp_path, split="test", holdout_clips=0.6)))
    assert parts["test"] < more
    for number in range(0, 40, 2):
        shutil.rmtree(tmp_path / f"clip{number}")
    assert set(names(videos(tmp_path, split="test", holdout_clips=0.3))) < parts["test"]  # of what is left, the same
    first_ten = [f"clip{number}" for number in range(1, 20, 2)]
    assert [name for name in first_ten if name in parts["test"]] == ["clip9", "clip17", "clip19"]


def test_the_end_of_clips_is_held_out(tmp_path, write_frames):
    write_frames(tmp_path / "a", 20)
    settings = {"holdout_clips": 0.0, "holdout_time": 0.25}
    train, test = (videos(tmp_path, split=part, **settings) for part in ("train", "test"))
    seen = {number for item in range(len(train)) for number in train.window(item).frames}
    held = {number for item in range(len(test)) for number in test.window(item).frames}
    assert max(seen) <= 14 and min(held) == 15 and len(train) == 13 and len(test) == 3


def test_crops(tmp_path, write_frames):
    assert centre_square(32, 48) == Square(8, 0, 32) and centre_square(48, 31) == Square(0, 8, 31)
    for seed in range(200):
        uniform = torch.rand(3, generator=torch.Generator().manual_seed(seed))
        left, top, side = random_square(32, 48, 20, uniform)
        assert 20 <= side <= 32 and left >= 0 and top >= 0 and left + side <= 48 and top + side <= 32
    assert random_square(10, 10, 20, torch.tensor([0.9, 0.9, 0.9])) == Square(0, 0, 10)
    assert random_square(32, 48, 8, torch.tensor([0.999, 0.999, 0.0])) == Square(32, 16, 16)
    write_frames(tmp_path / "clip", 12)
    one, other = (videos(tmp_path, crop="random", seed=seed) for seed in (0, 1))
    assert not torch.equal(one[3].values[0], other[3].values[0])
    assert torch.equal(one[3].values, videos(tmp_path, crop="random")[3].values)


def test_resizing_is_antialiased(frame_of):
    picture = torch.from_numpy(frame_of(3, (96, 64)).transpose(2, 0, 1).copy())
    found = cut(picture[None], Square(16, 0, 64), 16)[0].float()
    expected = Image.fromarray(frame_of(3, (96, 64))).crop((16, 0, 80, 64)).resize((16, 16), Image.Resampling.BILINEAR)
    assert (found - torch.from_numpy(np.asarray(expected).transpose(2, 0, 1).copy())).abs().max() <= 1


def test_the_cache_changes_nothing(folder):
    settings = {"holdout_time": 0.2, "holdout_clips": 0.0, "split": "test", "frames": 2}
    read, kept = videos(folder, **settings), videos(folder, cache="memory", **settings)
    everything = torch.arange(len(read))
    expected, found = read.observations(everything), kept.observations(everything)
    assert torch.equal(found.values, expected.values) and torch.equal(found.params.time, expected.params.time)


def test_worker_processes_read_the_same(folder):
    clips = videos(folder)
    expected = torch.stack([clips[item].values for item in range(12)])  # leaves files open here
    loader = DataLoader(clips, batch_size=3, num_workers=2, sampler=range(12), generator=torch.Generator())
    assert torch.equal(torch.cat([batch.values for batch in loader]), expected)
    assert torch.equal(clips[11].values, expected[11])


def test_a_broken_clip_is_named_or_left_out(tmp_path, write_video, caplog):
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", frames=6, offset=number)
    (tmp_path / "1.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"1\.mp4: cannot be read as a video"):
        videos(tmp_path)
    clips = videos(tmp_path, on_error="skip")
    assert names(clips) == ["0.mp4", "2.mp4"] and len(clips.skipped) == 1 and "1.mp4" in clips.skipped[0]
    assert "left out 1 of 3 clips" in caplog.text
    (tmp_path / "2.mp4").write_bytes(b"overwritten under way")
    with pytest.raises(
        UserError, match=r"2\.mp4: cannot be read as a video \(.*\); remove it or fetch it again \(item 5\)"
    ):
        clips[5]
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"none of its 3 clips can be read; the last one: .*2\.mp4"):
        videos(tmp_path, on_error="skip")


def test_pictures_of_different_sizes_are_refused(tmp_path, write_frames):
    write_frames(tmp_path / "clip", 5)
    Image.new("RGB", (20, 20)).save(tmp_path / "clip" / "im3.png")
    clips = videos(tmp_path, window_frames=2)
    with pytest.raises(UserError, match=r"clip: its frames differ in size, 20x20, 48x32; bring them to one \(item 0\)"):
        clips[0]


def test_short_clips(tmp_path, write_frames, caplog):
    write_frames(tmp_path / "long", 4)
    write_frames(tmp_path / "short", 2)
    assert names(videos(tmp_path)) == ["long"]
    assert "no window of 1 of 2 clips holds enough frames" in caplog.text
    with pytest.raises(
        UserError, match=r"none of its 2 clips has 5 frames within a window in split=all; make the window"
    ):
        videos(tmp_path, frames=5)


def test_paths_that_are_no_clips(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nowhere: no such file or folder; give `path` videos"):
        videos(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no video and no picture; expected videos"):
        videos(tmp_path)
    (tmp_path / "a.txt").write_text("no video")
    with pytest.raises(UserError, match=r"a\.txt: is no folder, and no video"):
        videos(tmp_path / "a.txt")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="holds no video; expected videos"):
        videos(tmp_path, layout="videos")
    monkeypatch.delenv("GOEMBED_DATA", raising=False)
    with pytest.raises(UserError, match="no videos given: set `path` to a folder of videos"):
        videos(None)
    monkeypatch.setenv("GOEMBED_DATA", str(tmp_path))
    with pytest.raises(UserError, match="has no folder videos; put videos there, or set `path`"):
        videos(None)


def test_what_is_known_is_kept_where_it_was_asked_for(tmp_path, write_video, monkeypatch, caplog):
    root, kept = tmp_path / "videos", tmp_path / "index"
    root.mkdir()
    path = write_video(root / "a.mp4")
    expected = videos(root, index=kept)[0].values
    assert [item.name for item in root.iterdir()] == ["a.mp4"] and len(list(kept.iterdir())) == 1
    looked, original = [], kept_indices.index_video
    monkeypatch.setattr(kept_indices, "index_video", lambda p, decode: looked.append(p) or original(p, decode))
    assert torch.equal(videos(root, index=kept)[0].values, expected) and looked == []
    videos(root, index=kept, on_error="skip")  # wants every frame tried
    videos(root, index=kept, on_error="skip")
    assert looked == [path]
    write_video(path, frames=9)
    assert len(videos(root, index=kept)) == 7 and looked == [path, path]
    (entry,) = kept.iterdir()
    for content in ("{", "[]", '{"format": 1}', entry.read_text().replace('"pts": [0', '"pts": [99999999')):
        entry.write_text(content)
        caplog.clear()
        assert len(videos(root, index=kept)) == 7
        assert "cannot be used" in caplog.text
    assert len(looked) == 6
    with pytest.raises(UserError, match=r"index=.*a\.mp4.*: cannot be written to"):
        videos(root, index=path / "no folder")


def test_settings_that_cannot_be():
    with pytest.raises(ValidationError, match="frames=5 do not fit in window_frames=3; expected window_frames of 4 or"):
        VideosConfig(frames=5, window_frames=3)
    with pytest.raises(ValidationError, match="cache=memory keeps frames as they are cropped"):
        VideosConfig(cache="memory", crop="random")
    for bad in ({"frames": 1}, {"window_s": 0}, {"holdout_clips": 1.0}, {"stride": 0}, {"layout": "zip"}):
        with pytest.raises(ValidationError):
            VideosConfig(**bad)


def test_the_public_clips():
    if "GOEMBED_DATA" not in os.environ or not Path(os.environ["GOEMBED_DATA"], "videos").is_dir():
        pytest.skip("GOEMBED_DATA names no folder with videos")
    train, test = (VideoDataset(VideosConfig(split=part)) for part in ("train", "test"))
    assert len(train.source.names) >= 20 and len(train) > 1000 and len(test) > 50
    assert not {train.source.names[clip] for clip in train._clips} & {test.source.names[clip] for clip in test._clips}
    values = test.observations(torch.tensor([0, len(test) - 1])).values
    assert values.shape == (2, 3, 3, 64, 64) and (values.flatten(2).std(2) > 0.1).all()
