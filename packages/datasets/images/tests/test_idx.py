"""IDX files: a round trip, and every way in which one can be broken."""

import gzip
import struct

import numpy as np
import pytest
from goembed_core.errors import UserError
from goembed_image_datasets import idx
from goembed_image_datasets.config import ImagesConfig
from goembed_image_datasets.idx import read_idx, write_idx
from goembed_image_datasets.images import ImageDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


@settings(max_examples=25, deadline=None)
@given(values=arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3)), ending=st.sampled_from(["", ".gz"]))
def test_round_trip(tmp_path_factory, values, ending):
    path = tmp_path_factory.mktemp("idx") / f"x-idx3-ubyte{ending}"
    write_idx(path, values)
    assert np.array_equal(read_idx(path, rank=3), values)


def test_layout_is_the_published_one(tmp_path):
    path = tmp_path / "x"
    write_idx(path, IMAGES)
    assert path.read_bytes() == bytes.fromhex("00000803 00000003 00000004 00000005") + bytes(range(60))


def test_gzip_is_known_by_its_content_not_by_its_name(tmp_path):
    write_idx(tmp_path / "x.gz", IMAGES)
    (tmp_path / "x").write_bytes((tmp_path / "x.gz").read_bytes())
    assert np.array_equal(read_idx(tmp_path / "x", rank=3), IMAGES)


def header(*sizes, magic=b"\x00\x00\x08\x03"):
    return magic + struct.pack(f">{len(sizes)}I", *sizes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(3, 4, 5) + bytes(45), "truncated in item 2: its header promises 3 items (60 bytes), it holds 45"),
        (header(3, 4, 5) + bytes(61), "holds more than the 3 items"),
        (header(3, 4, 5, magic=b"\x00\x00\x08\x01"), "begins with 00 00 08 01, expected 00 00 08 03"),
        (header(3, 4, 5, magic=b"\x00\x00\x0d\x03") + bytes(240), "begins with 00 00 0d 03"),
        (b"\x89PNG\r\n", "begins with 89 50 4e 47"),
        (b"", "begins with nothing"),
        (header(3, 4), "truncated in its header"),
        (header(0, 4, 5), "0x4x5, which no image set has"),
        (header(2**31, 2**16, 2**16), "which no image set has"),
        (gzip.compress(header(3, 4, 5) + bytes(60))[:-12], "cannot be read as an IDX file"),
        (gzip.compress(header(3, 4, 5) + bytes(45)), "truncated in item 2"),
        (b"\x1f\x8bnot gzip at all", "cannot be read as an IDX file"),
    ],
)
def test_broken_files_are_named(tmp_path, data, message):
    path = tmp_path / "broken-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_idx(path, rank=3)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_header_that_promises_too_much_costs_nothing(tmp_path, monkeypatch):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(header(1000, 1000, 1000) + bytes(10))
    asked = []
    read = idx.read_bytes_of
    monkeypatch.setattr(idx, "read_bytes_of", lambda file, count: asked.append(count) or read(file, count))
    with pytest.raises(UserError, match="truncated in item 0"):
        read_idx(path, rank=3)
    assert asked == [26]  # no more than the file has
    path.write_bytes(gzip.compress(header(2000, 1000, 1000) + bytes(10)))
    with pytest.raises(UserError, match=r"2000x1000x1000 in .. compressed bytes, more than 100 times as much"):
        read_idx(path, rank=3)
    assert len(asked) == 1


def test_labels_are_not_taken_for_images(tmp_path):
    write_idx(tmp_path / "x", np.zeros(4, np.uint8))
    with pytest.raises(UserError, match="with 3 axes"):
        read_idx(tmp_path / "x", rank=3)
    assert read_idx(tmp_path / "x", rank=1).shape == (4,)


def test_the_splits_of_a_folder(idx_folder):
    train, test = (ImageDataset(ImagesConfig(path=idx_folder, split=split)) for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 5)
    assert train.labels.tolist() == list(range(12))


def test_28_becomes_32_by_two_black_pixels_a_side(idx_folder):
    dataset = ImageDataset(ImagesConfig(path=idx_folder))
    raw = read_idx(idx_folder / "train-images-idx3-ubyte", rank=3)
    image = dataset[7].image
    assert image.shape == (1, 32, 32)
    assert np.allclose(image[0, 2:-2, 2:-2], raw[7] / 127.5 - 1, atol=1e-6)
    frame = image.clone()
    frame[0, 2:-2, 2:-2] = -1
    assert (frame == -1).all()


def test_labels_that_do_not_match_their_images(idx_folder):
    write_idx(idx_folder / "train-labels-idx1-ubyte", np.zeros(11, np.uint8))
    with pytest.raises(UserError, match="11 labels for 12 images"):
        ImageDataset(ImagesConfig(path=idx_folder))


def test_a_file_alone_has_no_labels(tmp_path):
    write_idx(tmp_path / "things.idx", np.zeros((2, 6, 6), np.uint8))
    assert ImageDataset(ImagesConfig(path=tmp_path / "things.idx", resolution=None)).labels.tolist() == [-1, -1]


def test_a_split_that_is_not_there(idx_folder):
    for file in idx_folder.glob("t10k*"):
        file.unlink()
    with pytest.raises(UserError, match=r"no IDX file of the split 'test' \(t10k-images-idx3-ubyte"):
        ImageDataset(ImagesConfig(path=idx_folder, split="test"))
