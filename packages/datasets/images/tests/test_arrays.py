"""Arrays of NumPy: what is read, and every way in which a file can be broken or made to break."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_image_datasets import bounds
from goembed_image_datasets.config import ImagesConfig
from goembed_image_datasets.images import ImageDataset
from hypothesis import example, given, settings
from hypothesis import strategies as st

GREY = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
COLOUR = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
DIGITS = np.array([7, 8, 9])


def dataset(path, **values):
    return ImageDataset(ImagesConfig(path=path, resolution=8, **values))


def bytes_of(images):
    return ((images.gather(torch.arange(len(images))) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def npy(values, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, values, **options)
    return file.getvalue()


def header(text, magic=b"\x93NUMPY\x01\x00"):
    return magic + struct.pack("<H", len(text)) + text.encode("latin1")


def refusal(path, data=None, **values):
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        dataset(path, **values)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize(
    "values", [GREY, GREY[..., None], COLOUR, np.asfortranarray(COLOUR)], ids=lambda v: str(v.shape)
)
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_the_images_of_an_array(tmp_path, values, save):
    path = tmp_path / ("x.npy" if save is np.save else "x.npz")
    save(path, values)
    images = dataset(path)
    assert np.array_equal(bytes_of(images), values.reshape(*values.shape[:3], -1))
    assert images.labels.tolist() == [-1] * len(values)
    with pytest.raises(UserError, match="has no split 'test'"):
        dataset(path, split="test")


@pytest.mark.parametrize(("images", "labels"), [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_an_npz_with_splits(tmp_path, images, labels):
    path = tmp_path / "medical.NPZ"
    arrays = {}
    for offset, split in enumerate(("train", "test")):
        arrays |= {images.format(split): GREY[offset:], labels.format(split): DIGITS[offset:, None].astype(">i2")}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    train, test = (dataset(path, split=split) for split in ("train", "test"))
    assert (train.labels.tolist(), test.labels.tolist()) == ([7, 8, 9], [8, 9])
    assert np.array_equal(bytes_of(test), GREY[1:, ..., None])


def test_the_names_of_an_npz(tmp_path):
    path = tmp_path / "x.npz"
    for names in (("images", "labels"), ("x", "y"), ("arr_0", "arr_1")):
        np.savez(path, **dict(zip(names, (GREY, DIGITS), strict=True)))
        assert dataset(path).labels.tolist() == [7, 8, 9]
    np.savez(path, a=GREY, b=GREY)
    assert "holds a, b; expected images in an array called images, x, arr_0, train_images or x_train" in refusal(path)
    np.savez(path, images=GREY, labels=DIGITS[:2])
    assert "2 labels in labels for 3 images in images" in refusal(path)
    np.savez(path, images=GREY, labels=np.ones((3, 10), np.int64))
    assert ":labels: is int64 of shape (3, 10); expected integers of (N,)" in refusal(path)
    np.savez(path, images=GREY, labels=np.array([0, 1, 2**64 - 1], np.uint64))
    assert ":labels: is uint64" in refusal(path)


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    mark = tmp_path / "executed"
    hostile = np.array([Marker(mark)], object)
    np.save(tmp_path / "x.npy", hostile, allow_pickle=True)
    np.savez(tmp_path / "x.npz", images=GREY, labels=hostile)
    (tmp_path / "y.npy").write_bytes(pickle.dumps(Marker(mark)))
    assert "holds object, expected unsigned bytes (uint8); objects are never unpickled" in refusal(tmp_path / "x.npy")
    assert ":labels: holds object" in refusal(tmp_path / "x.npz")
    assert "its header is not one of a NumPy array" in refusal(tmp_path / "y.npy")
    assert not mark.exists()


SHAPE = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"
BROKEN = {
    "cut": (npy(GREY)[:-70], "truncated in item 1: its header promises 3x8x8 values of uint8, it holds 122 bytes"),
    "long": (npy(GREY) + b"x", "holds 1 bytes more than its header promises 3x8x8"),
    "empty": (b"", "its header is not one of a NumPy array"),
    "text": (b"this is no array\n" * 9, "its header is not one of a NumPy array"),
    "version": (npy(GREY, version=(3, 0)), "its header is not one of a NumPy array"),
    "code": (header("{'descr': __import__('os').abort()}"), "its header is not one of a NumPy array"),
    "deep": (header("{'descr': " + "[" * 5000), "its header is not one of a NumPy array"),
    "huge": (header(SHAPE % "(99999999999, 4096, 4096)"), "99999999999x4096x4096, which no image set has"),
    "nothing": (npy(GREY[:0]), "0x8x8, which no image set has"),
    "negative": (header(SHAPE % "(-3, 8, 8)"), "-3x8x8, which no image set has"),
    "scalar": (header(SHAPE % "()") + b"a", "is uint8 of shape (); expected uint8 of (N, H, W), or of (N, H, W, C)"),
    "scalar, cut": (header(SHAPE % "()"), "truncated in item 0"),
    "float": (npy(GREY.astype(np.float32)), "holds float32, expected unsigned bytes (uint8)"),
    "int64": (npy(GREY.astype(np.int64)), "is int64 of shape (3, 8, 8); expected uint8"),
    "channels first": (npy(COLOUR.transpose(0, 3, 1, 2)), "is uint8 of shape (4, 3, 8, 8); expected uint8 of"),
    "records": (npy(np.zeros(3, [("a", "u1"), ("b", "u1")])), "expected unsigned bytes (uint8)"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("method", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["npy", "npz", "deflated"])
def test_broken_arrays_are_named(tmp_path, kind, method):
    data, message = BROKEN[kind]
    if method is None:
        assert message in refusal(tmp_path / "x.npy", data)
        return
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as file:
        file.writestr("images.npy", data)
    said = refusal(tmp_path / "x.npz")
    assert "x.npz:images: " in said and message in said


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    """A megabyte of zeros in a kilobyte stands for gigabytes in megabytes."""
    monkeypatch.setattr(bounds, "LARGE_BYTES", 2**19)
    monkeypatch.setattr("goembed_image_datasets.arrays.read_bytes_of", None)
    np.savez_compressed(tmp_path / "x.npz", np.zeros((1, 1024, 1024), np.uint8))
    assert "compressed bytes, more than 100 times as much; if that is so, store it" in refusal(tmp_path / "x.npz")


def test_other_compressions_are_refused(tmp_path):
    for method, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as file:
            file.writestr("images.npy", npy(GREY))
        assert f":images: is compressed by {name}, expected stored or deflate" in refusal(tmp_path / "x.npz")


def test_damage_within_a_zip_is_found(tmp_path):
    np.savez(tmp_path / "x.npz", images=GREY)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[200] ^= 1  # one value
    assert "cannot be read (Bad CRC-32" in refusal(tmp_path / "x.npz", data)
    assert "cannot be read (File is not a zip file)" in refusal(tmp_path / "x.npz", data[:-30])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    zipped=st.booleans(), cut=st.integers(0, 300), flips=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 255)))
)
@example(zipped=True, cut=0, flips=[])
@example(zipped=False, cut=0, flips=[])
def test_damage_of_any_kind_is_a_user_error(tmp_path_factory, zipped, cut, flips):
    path = tmp_path_factory.mktemp("array") / ("x.npz" if zipped else "x.npy")
    if zipped:
        np.savez_compressed(path, images=GREY, labels=DIGITS)
    else:
        np.save(path, GREY)
    data = bytearray(path.read_bytes())
    data = data[: len(data) - cut if cut < 150 else None]
    for place, bits in flips:
        data[place % len(data)] ^= bits
    path.write_bytes(data)
    try:
        assert len(dataset(path)) > 0
    except UserError as error:
        assert str(error).startswith(str(path)) and (flips or cut)
