"""Video files: any frame is what decoding from the start gives, and what is broken is named."""

import os
import pickle
import random
import struct
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from goembed_core.errors import UserError
from goembed_video_datasets import containers
from goembed_video_datasets.containers import VIDEO_SUFFIXES, VideoReader, first_frame, index_video, opened, pixels

KINDS = [
    ("a.mp4", "libx264"),  # with frames stored out of order
    ("a.mkv", "libx264"),
    ("a.ts", "libx264"),
    ("a.mov", "mpeg4"),
    ("a.avi", "mpeg4"),
    ("a.mpg", "mpeg2video"),
    ("a.webm", "libvpx-vp9"),
    ("a.flv", "flv1"),
    ("a.wmv", "wmv2"),
]


def from_the_start(path):
    with opened(path) as (container, stream):
        return [pixels(frame, path, number).copy() for number, frame in enumerate(container.decode(stream))]


@pytest.mark.parametrize(("name", "codec"), KINDS)
def test_seeking_equals_decoding_from_the_start(tmp_path, write_video, name, codec):
    path = write_video(tmp_path / name, frames=14, codec=codec, gop=4)
    expected, index, reader = from_the_start(path), index_video(path), VideoReader()
    assert len(index.pts) == len(expected) == 14 and 2 <= len(index.keys) <= 6
    for number in random.Random(0).sample(range(14), 14):
        assert np.array_equal(reader.read(path, index, [number])[0], expected[number])
    several = [13, 2, 2, 7, 0]
    found = reader.read(path, index, several)
    assert all(np.array_equal(frame, expected[number]) for frame, number in zip(found, several, strict=True))
    assert np.array_equal(first_frame(path), expected[0])


def test_frames_are_those_that_were_written(tmp_path, write_video, frame_of):
    path = write_video(tmp_path / "a.mp4", options={"qp": "1"})
    for number in (11, 0, 6):
        (found,) = VideoReader().read(path, index_video(path), [number])
        difference = found.astype(int) - frame_of(number).transpose(2, 0, 1)
        assert np.abs(difference).mean() < 6  # colour has half the resolution


def test_only_what_is_needed_is_decoded(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "a.mp4", frames=60, gop=10, options={"bf": "0", "sc_threshold": "0"})
    index, decoded, original = index_video(path), [], containers.in_order
    monkeypatch.setattr(
        containers, "in_order", lambda p, frames: (decoded.append(f.pts) or f for f in original(p, frames))
    )
    assert index.keys.tolist() == index.pts[::10].tolist()
    VideoReader().read(path, index, [53, 34])
    assert decoded == index.pts[[*range(30, 35), *range(50, 54)]].tolist()


def test_times_are_those_of_the_file(tmp_path, write_video):
    ticks = [0, 3, 4, 10, 30, 31, 32, 50, 90, 91, 100, 120]
    index = index_video(write_video(tmp_path / "a.mkv", ticks=ticks))
    assert np.allclose((index.pts - index.pts[0]) * index.tick_s, np.array(ticks) / 100, atol=1e-3)


@pytest.mark.slow
def test_seeking_in_real_clips():
    folder = Path(os.environ.get("GOEMBED_DATA", ""), "videos")
    if "GOEMBED_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("GOEMBED_DATA names no folder with videos")
    clips = sorted(path for path in folder.iterdir() if path.suffix in VIDEO_SUFFIXES)
    assert clips
    for path in clips:
        index, reader = index_video(path, decode=True), VideoReader()
        with opened(path) as (container, stream):
            for number, frame in enumerate(container.decode(stream)):
                assert np.array_equal(reader.read(path, index, [number])[0], pixels(frame, path, number)), (
                    path,
                    number,
                )
        assert number + 1 == len(index.pts)


def test_no_handle_is_shared_with_another_process(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4")
    index, reader = index_video(path), VideoReader()
    expected = reader.read(path, index, [3])[0]
    mine = reader._files[path][0]
    reader._process = -1  # as a forked process finds it
    assert np.array_equal(reader.read(path, index, [3])[0], expected)
    assert reader._files[path][0] is not mine
    copy = pickle.loads(pickle.dumps(reader))
    assert not copy._files and np.array_equal(copy.read(path, index, [3])[0], expected)


def test_few_files_are_open_at_a_time(tmp_path, write_video):
    paths = [write_video(tmp_path / f"{number}.mkv", frames=2, offset=number) for number in range(11)]
    reader = VideoReader()
    for path in paths * 2:
        assert np.array_equal(reader.read(path, index_video(path), [1])[0], from_the_start(path)[1])
        assert len(reader._files) <= containers.MAX_OPEN


def test_a_telephone_held_upright(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", frames=2)
    plain = first_frame(path)
    data = path.read_bytes()
    straight = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    place = data.index(b"tkhd")
    at = data.index(straight, place)
    clockwise = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 32 << 16, 0, 1 << 30)
    path.write_bytes(data[:at] + clockwise + data[at + len(clockwise) :])
    assert np.array_equal(first_frame(path), np.rot90(plain, -1, (1, 2)))


def refusal(path, decode=False):
    with pytest.raises(UserError) as caught:
        index_video(path, decode)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and text.count(str(path)) == 1
    return text.removeprefix(f"{path}: ")


def test_what_is_no_video(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mkv").write_bytes(b"this is no video\n" * 100)
    for name in ("empty.mp4", "text.mkv"):
        assert refusal(tmp_path / name).startswith("cannot be read as a video (Invalid data found")
    assert refusal(tmp_path / "none.mp4") == "no such file; expected a video"
    assert refusal(tmp_path) == "is a folder; expected a video"
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert refusal(tmp_path / "gone.mp4") == "no such file; expected a video"


def test_sound_alone(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert refusal(path) == "has no video track with a frame; remove it or convert it"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.mp4", "has no video track with a frame; remove it or convert it"),
        ("a.mkv", "cannot be read as a video (End of file); remove it or fetch it again"),
        ("a.avi", "has no frames; remove it"),
    ],
)
def test_a_video_without_frames(tmp_path, write_video, name, said):
    assert refusal(write_video(tmp_path / name, frames=0, codec="mpeg4")) == said


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_a_truncated_video(tmp_path, write_video, share):
    path = write_video(tmp_path / "a.mp4", frames=40, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    said = refusal(path)
    assert said.startswith("is truncated: ") and said.endswith(" of 40 frames; fetch it again")
    path.write_bytes(data[:200])
    assert refusal(path)


def test_a_video_that_ends_between_two_frames(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", frames=40, container_options={"movflags": "faststart"})
    with opened(path) as (container, stream):
        place = next(islice(container.demux(stream), 20, None)).pos
    path.write_bytes(path.read_bytes()[:place])
    assert refusal(path) == "is truncated: 20 of 40 frames; fetch it again"


def test_frames_without_an_order(tmp_path, write_video):
    path = write_video(tmp_path / "a.avi", codec="libx264")  # with frames out of order, which AVI cannot say
    expected = "its frames have no times, or not in order; write it again as `ffmpeg -i FILE NEW.mp4` does"
    assert refusal(path) == expected
    assert refusal(path, decode=True) == expected


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_damage_of_any_kind_is_a_user_error(tmp_path, write_video, name):
    path = write_video(tmp_path / name, frames=8, codec="mpeg4" if name == "a.avi" else "libx264")
    data, refused = path.read_bytes(), 0
    for seed in range(40):
        damaged, numbers = bytearray(data), random.Random(seed)
        for _ in range(4):
            damaged[numbers.randrange(len(data))] ^= numbers.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            index = index_video(path)
            for number in islice(range(len(index.pts)), 50):
                VideoReader().read(path, index, [number])
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 10


def test_a_damaged_frame_is_named_and_found_by_decoding(tmp_path, write_video):
    path = write_video(tmp_path / "a.mp4", frames=12, gop=4, options={"bf": "0", "sc_threshold": "0"})
    with opened(path) as (container, stream):
        packet = next(islice(container.demux(stream), 6, None))
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place + 6 : place + size] = bytes(255 for _ in range(size - 6))
    path.write_bytes(data)
    index = index_video(path)
    assert len(index.pts) == 12
    reader = VideoReader()
    reader.read(path, index, [3, 9])  # frames that do not depend on it
    with pytest.raises(UserError, match=rf"{path}: (frame 6 (is damaged|cannot be decoded)|is damaged or truncated)"):
        reader.read(path, index, [6])
    assert "damaged" in (said := refusal(path, decode=True)) or "cannot be decoded" in said


def test_a_playlist_with_the_name_of_a_video_opens_nothing(tmp_path, write_video):
    target = write_video(tmp_path / "secret.ts")
    path = tmp_path / "a.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{target}\n#EXT-X-ENDLIST\n")
    assert refusal(path).startswith("cannot be read as a video (")
    path.write_text(f"ffconcat version 1.0\nfile {target.name}\n")
    assert refusal(path).startswith("cannot be read as a video (")


def test_frames_of_enormous_size(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "a.mp4")
    index = index_video(path)
    monkeypatch.setattr(containers, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match=r"a\.mp4: is damaged or truncated"):
        VideoReader().read(path, index, [0])


def test_names_that_look_like_addresses(tmp_path, write_video, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "b.mp4").rename(tmp_path / "concat:a|b%20.mp4")
    assert len(index_video(Path("concat:a|b%20.mp4")).pts) == 12
