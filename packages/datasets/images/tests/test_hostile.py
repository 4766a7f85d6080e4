"""Files that are broken, or made to break: the error names the file, and says what to do."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_image_datasets import sources
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


BROKEN = {
    "cut": (encoded("PNG", 64)[:3000], "is damaged or truncated"),
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
    picture(0).save(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"0.png: is one image; expected a folder, a zip or an IDX file"):
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
            UserError, match="set `path` to a folder, a zip or an IDX file of images, or the environment"
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
    monkeypatch.setattr(sources, "MAX_ENTRY_BYTES", 1000)
    with pytest.raises(UserError, match=r"set\.zip:0\.png: more than 1000 bytes"):
        dataset(path)


def test_names_that_climb_out_of_a_zip_reach_nothing(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../0.png", encoded("PNG", 64))
    assert dataset(path).source.names == ["../../0.png"]
    assert [item.name for item in tmp_path.iterdir()] == ["set.zip"]
