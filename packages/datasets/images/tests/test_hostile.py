"""Files that are broken, or made to break: the error names the file, and says what to do."""

import io
import os
import resource
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_image_datasets import bounds
from goembed_image_datasets.config import ImagesConfig
from goembed_image_datasets.decode import decode
from goembed_image_datasets.images import ImageDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def dataset(path, **settings):
    return ImageDataset(ImagesConfig(path=path, resolution=8, **settings))


def encoded(kind, side):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def bomb(side):
    """A PNG of a few bytes that claims `side` x `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def texts(count):
    """A PNG with a comment that unpacks to a megabyte less a byte, `count` times over."""
    chunk = b"a\0\0" + zlib.compress(bytes(2**20 - 1))
    chunk = struct.pack(">I", len(chunk)) + b"zTXt" + chunk + struct.pack(">I", zlib.crc32(b"zTXt" + chunk))
    data = encoded("PNG", 8)
    return data[:33] + chunk * count + data[33:]  # after the header


BROKEN = {
    "cut": (encoded("PNG", 64)[:3000], "is damaged or truncated"),
    "cut jpeg": (encoded("JPEG", 64)[:900], "is damaged or truncated"),
    "cut webp": (encoded("WEBP", 64)[:900], "is damaged or truncated"),
    "text bomb": (texts(70), "is damaged or truncated"),
    "text": (b"this is no picture\n" * 40, "is not an image of the formats PNG"),
    "empty": (b"", "is not an image of the formats PNG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "is not an image of the formats PNG"),
    "bomb": (bomb(60_000), "claims more than the"),
    "small bomb": (bomb(10_000), "claims more than the"),  # here Pillow itself only warns
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("container", ["folder", "zip"])
def test_broken_images_are_named(tmp_path, kind, container, picture):
    data, message = BROKEN[kind]
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(data)
    path, name = tmp_path, str(tmp_path / "1.png")
    if container == "zip":
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w") as file:
            for item in ("0.png", "1.png"):
                file.write(tmp_path / item, item)
        name = f"{path}:1.png"
    with pytest.raises(UserError) as caught:
        dataset(path)
    assert str(caught.value).startswith(f"{name}: {message}")
    with pytest.raises(UserError, match=r"1\.png"):
        dataset(path, cache="none")[1]


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_broken_images_can_be_skipped(tmp_path, cache, caplog, picture):
    for index in (1, 3):
        picture(index).save(tmp_path / f"{index}.png")
    for index, kind in ((0, "cut"), (2, "bomb")):
        (tmp_path / f"{index}.png").write_bytes(BROKEN[kind][0])
    (tmp_path / "dataset.json").write_text('{"labels": [["0.png", 5], ["1.png", 6], ["3.png", 8]]}')
    images = dataset(tmp_path, on_error="skip", cache=cache)
    assert len(images) == 2 and images.labels.tolist() == [6, 8]
    expected = torch.stack([torch.tensor(list(picture(i).tobytes())).view(8, 8, 3).permute(2, 0, 1) for i in (1, 3)])
    assert torch.allclose((images.gather(torch.arange(2)) + 1) * 127.5, expected.float(), atol=1e-3)
    assert "left out 2 of 4 images" in caplog.text and "0.png: is damaged" in caplog.text


def test_nothing_left_after_skipping(tmp_path):
    (tmp_path / "0.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"none of its 1 images can be read; the last one: .*0.png"):
        dataset(tmp_path, on_error="skip")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]),
    cut=st.integers(1, 400),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=8),
)
def test_damage_of_any_kind_is_a_user_error(kind, cut, flips):
    data = bytearray(encoded(kind, 16))
    data = data[:-cut] if cut < 200 else data
    for place, bits in flips if data else ():
        data[place % len(data)] ^= bits
    try:
        assert decode(bytes(data), "the file").mode in ("L", "RGB")
    except UserError as error:
        assert str(error).startswith("the file: ")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(UserError, match="holds no image; expected files of the formats PNG"):
        dataset(tmp_path)


def test_links(tmp_path, picture):
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)  # a loop
    (tmp_path / "1.png").symlink_to(tmp_path / "0.png")
    assert dataset(tmp_path).source.names == ["0.png", "1.png"]
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "3.png").symlink_to(tmp_path / "3.png")
    with pytest.raises(UserError, match=r"2.png: cannot be read \(No such file"):
        dataset(tmp_path)
    assert len(dataset(tmp_path, on_error="skip")) == 2


def test_paths_that_are_no_set(tmp_path, picture):
    with pytest.raises(UserError, match="nowhere: no such file or folder; give `path`"):
        dataset(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"~no-such-user/photos .*: no such file or folder"):
        dataset("~no-such-user/photos")
    picture(0).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"0.png: is one image; expected a folder, a zip, an npz or an IDX file"):
        dataset(tmp_path / "0.png")
    with pytest.raises(UserError, match="has no split 'test'"):
        dataset(tmp_path, split="test")
    (tmp_path / "set.zip").write_bytes(b"PK no zip")
    with pytest.raises(UserError, match=r"set\.zip: cannot be read as a zip"):
        dataset(tmp_path / "set.zip")
    (tmp_path / "set.tar").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"set\.tar: begins with 73 6f 6d 65"):
        dataset(tmp_path / "set.tar")


def test_fashion_mnist_is_looked_for_in_the_data_folder(tmp_path, monkeypatch, idx_folder):
    monkeypatch.delenv("GOEMBED_DATA", raising=False)
    for path in (None, "fashion-mnist"):
        with pytest.raises(
            UserError, match="set `path` to a folder, a zip, an npz or an IDX file of images, or the environment"
        ):
            dataset(path)
    monkeypatch.setenv("GOEMBED_DATA", str(tmp_path))
    with pytest.raises(UserError, match="has no folder fashion_mnist"):
        dataset(None)
    os.rename(idx_folder, tmp_path / "fashion_mnist")
    assert len(dataset(None)) == len(dataset("fashion-mnist")) == 12


def test_zips_that_are_damaged_or_too_large(tmp_path, monkeypatch):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("0.png", encoded("PNG", 64))
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"set.zip:0.png: cannot be read \(Bad CRC-32"):
        dataset(path)
    data[2000] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(bounds, "MAX_FILE_BYTES", 1000)
    with pytest.raises(UserError, match=r"set\.zip:0\.png: more than 1000 bytes"):
        dataset(path)


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_a_bomb_is_refused_before_it_is_decoded():
    before = peak_bytes()
    with pytest.raises(UserError, match="claims more than the"):
        decode(bomb(50_000), "the file")  # 7.5 GB of pixels
    assert peak_bytes() - before < 100e6


def entries(path, *items, method=zipfile.ZIP_DEFLATED):
    """A zip of names, or of `ZipInfo`, and contents."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in items:
            file.writestr(name, data)
    return path


def test_hostile_names_in_a_zip_are_names_only(tmp_path):
    """Absolute, climbing, of another system, a link, a zip in a zip: read in place or left alone, never unpacked."""
    target = tmp_path / "target.png"
    target.write_bytes(encoded("PNG", 8))
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    names = ["/etc/goembed.png", "../../up.png", "C:\\windows\\x.png", "a\nb.png"]
    inner = entries(tmp_path / "inner.zip", ("deep.png", encoded("PNG", 8))).read_bytes()
    items = [(name, encoded("PNG", 8)) for name in names]
    path = entries(tmp_path / "set.zip", *items, ("inner.zip", inner), (link, str(target)))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"set\.zip:link\.png: is not an image") as caught:
        dataset(path)
    assert "\n" not in str(caught.value)
    images = dataset(path, on_error="skip")
    assert len(images) == 4 and "inner.zip" not in images.source.names
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_what_a_zip_skips_is_counted(tmp_path, cache, caplog):
    broken = [(f"{kind}.png", data) for kind, (data, _) in BROKEN.items()]
    path = entries(tmp_path / "set.zip", *broken, ("whole.png", encoded("PNG", 8)))
    assert len(dataset(path, on_error="skip", cache=cache)) == 1
    assert f"left out {len(BROKEN)} of {len(BROKEN) + 1} images" in caplog.text
    for name, _ in broken:
        assert f"set.zip:{name}: " in caplog.text


def test_zip_bombs(tmp_path, monkeypatch):
    """What an entry declares is believed where it is too much, and not where it is too little."""
    monkeypatch.setattr(bounds, "MAX_FILE_BYTES", 2**20)
    path = entries(tmp_path / "set.zip", ("0.png", bytes(2**26)))
    before = peak_bytes()
    with pytest.raises(UserError, match=r"set\.zip:0\.png: more than 1048576 bytes"):
        dataset(path)
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 1000)  # of 64 MiB
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"set\.zip:0\.png: (cannot be read \(Bad CRC-32|is not an image)"):
        dataset(path)
    assert peak_bytes() - before < 2**25


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")])
def test_compressions_that_unpack_without_bound_are_refused(tmp_path, method, name):
    path = entries(tmp_path / "set.zip", ("0.png", encoded("PNG", 8)), method=method)
    with pytest.raises(UserError, match=rf"set\.zip:0\.png: is compressed by {name}, expected stored or deflate"):
        dataset(path)


def test_an_encrypted_zip(tmp_path):
    path = entries(tmp_path / "set.zip", ("0.png", encoded("PNG", 8)))
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rfind(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"set\.zip:0\.png: cannot be read \(.*encrypted"):
        dataset(path)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cut=st.integers(1, 200), flips=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 255)), max_size=6))
def test_a_damaged_zip_is_a_user_error(tmp_path_factory, cut, flips):
    path = tmp_path_factory.mktemp("zip") / "set.zip"
    whole = [("0.png", encoded("PNG", 8)), ("1.png", encoded("PNG", 8)), ("dataset.json", '{"labels": [["0.png", 1]]}')]
    data = bytearray(entries(path, *whole).read_bytes())
    data = data[:-cut] if cut < 50 else data
    for place, bits in flips:
        data[-1 - place % len(data)] ^= bits
    path.write_bytes(data)
    for on_error in ("raise", "skip"):
        try:
            dataset(path, on_error=on_error)
        except UserError as error:
            assert "set.zip" in str(error)


def test_pipes_devices_and_large_files_are_refused(tmp_path, monkeypatch, picture):
    picture(0).save(tmp_path / "0.png")
    os.mkfifo(tmp_path / "1.png")
    (tmp_path / "2.png").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"1\.png: is no regular file"):
        dataset(tmp_path)
    assert len(dataset(tmp_path, on_error="skip")) == 1
    with pytest.raises(UserError, match=r"2\.png: is neither a folder nor a regular file"):
        dataset(tmp_path / "2.png")
    monkeypatch.setattr(bounds, "MAX_FILE_BYTES", 100)
    with pytest.raises(UserError, match=r"0\.png: more than 100 bytes; scale it down or remove it"):
        dataset(tmp_path)


@pytest.mark.parametrize("label", ["1e999", "99999999999999999999", '"x"', "[]", "null", "NaN"])
def test_labels_that_are_none(tmp_path, picture, label):
    picture(0).save(tmp_path / "0.png")
    (tmp_path / "dataset.json").write_text(f'{{"labels": [["0.png", {label}]]}}')
    with pytest.raises(UserError, match=r"dataset\.json: expected"):
        dataset(tmp_path)
