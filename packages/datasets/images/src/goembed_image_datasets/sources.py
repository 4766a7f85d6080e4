"""Where images lie: a folder, a zip, an IDX file.  A source knows its items' names and labels and reads one."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from goembed_core.errors import UserError, whereabouts
from PIL import Image

from goembed_image_datasets import bounds
from goembed_image_datasets.arrays import ArraySource
from goembed_image_datasets.bounds import read_file, require_plain_zip
from goembed_image_datasets.decode import FORMATS, SUFFIXES, decode
from goembed_image_datasets.idx import read_idx

ARRAY_SUFFIXES = (".npy", ".npz")
FASHION_MNIST = "fashion-mnist"
UNKNOWN = -1


@runtime_checkable
class ImageSource(Protocol):
    """Images by number, in an order that is the same everywhere."""

    names: list[str]  # what an error calls each item
    labels: list[int]  # -1: unknown
    default_fit: Literal["pad", "crop"]

    def read(self, index: int) -> Image.Image:
        """The image as `L` or `RGB`."""
        ...


class FolderSource:
    """The images of a folder and of those in it, sorted by path; symbolic links to folders are not followed."""

    default_fit: Literal["pad", "crop"] = "crop"

    def __init__(self, path: Path):
        found = [
            PurePosixPath(Path(folder, name).relative_to(path).as_posix())
            for folder, _, names in os.walk(path)
            for name in names
        ]
        self.path = path
        self.names = sorted(str(name) for name in found if _is_image(name))
        listing = path / "dataset.json"
        self.labels = _labels(self.names, read_file(listing) if listing.is_file() else None, str(listing))

    def read(self, index: int) -> Image.Image:
        """Decode the file `index`."""
        path = self.path / self.names[index]
        return decode(read_file(path), str(path))


class ZipSource:
    """The images of a zip, sorted by name and read in place; `dataset.json` may hold `{"labels": [[name, 3], ...]}`."""

    default_fit: Literal["pad", "crop"] = "crop"

    def __init__(self, path: Path):
        self.path = path
        self._file: zipfile.ZipFile | None = None
        self._process = -1
        entries = {entry.filename for entry in self._open().infolist() if not entry.is_dir()}
        self.names = sorted(name for name in entries if _is_image(PurePosixPath(name)))
        listing = self._bytes("dataset.json") if "dataset.json" in entries else None
        self.labels = _labels(self.names, listing, f"{path}:dataset.json")

    def read(self, index: int) -> Image.Image:
        """Decode the entry `index`."""
        name = self.names[index]
        return decode(self._bytes(name), f"{self.path}:{name}")

    def _open(self) -> zipfile.ZipFile:
        """The zip, opened once a process: a file position must not be shared with a forked one."""
        if self._file is None or self._process != os.getpid():
            try:
                self._file, self._process = zipfile.ZipFile(self.path), os.getpid()
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise UserError(f"{self.path}: cannot be read as a zip ({error}); make or fetch it again") from error
        return self._file

    def _bytes(self, name: str) -> bytes:
        try:
            info = self._open().getinfo(name)
            require_plain_zip(info, f"{self.path}:{name}")
            with self._open().open(info) as entry:
                data = entry.read(bounds.MAX_FILE_BYTES + 1) if info.file_size <= bounds.MAX_FILE_BYTES else None
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, zlib.error) as error:  # RuntimeError: a password
            raise UserError(f"{self.path}:{name}: cannot be read ({error}); make or fetch the zip again") from error
        if data is None:
            raise UserError(f"{self.path}:{name}: more than {bounds.MAX_FILE_BYTES} bytes; scale it down or remove it")
        return data

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_file": None, "_process": -1}


class IdxSource:
    """The grey images of an IDX file, with the labels of its companion where there is one."""

    default_fit: Literal["pad", "crop"] = "pad"

    def __init__(self, path: Path):
        self.images = read_idx(path, rank=3)
        self.names = [f"{path}, item {index}" for index in range(len(self.images))]
        self.labels = [UNKNOWN] * len(self.images)
        companion = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        if companion != path and companion.is_file():
            labels = read_idx(companion, rank=1)
            if len(labels) != len(self.images):
                raise UserError(f"{companion}: {len(labels)} labels for {len(self.images)} images in {path.name}")
            self.labels = labels.tolist()

    def read(self, index: int) -> Image.Image:
        """The image `index`."""
        return Image.fromarray(np.ascontiguousarray(self.images[index]))


def open_source(path: Path | None, split: Literal["train", "test"]) -> ImageSource:
    """The source that a path stands for: a folder, a zip, an array of NumPy, an IDX file or a folder of those."""
    path = _located(path)
    idx, has_splits = None, False
    if not path.is_dir() and not path.is_file():
        raise UserError(f"{path}: is neither a folder nor a regular file; expected a set of images")
    if path.is_dir():
        idx = _idx_file(path, split)
        source = IdxSource(idx) if idx else FolderSource(path)
    elif path.suffix.lower() in ARRAY_SUFFIXES:
        source = ArraySource(path, split)
        has_splits = source.has_splits
    else:
        idx = None if zipfile.is_zipfile(path) or path.suffix == ".zip" else path
        if path.suffix.lower() in SUFFIXES:
            raise UserError(
                f"{path}: is one image; expected a folder, a zip, an npz or an IDX file (give the folder it is in)"
            )
        source = IdxSource(idx) if idx else ZipSource(path)
    if not source.names:
        raise UserError(f"{path}: holds no image; expected files of the formats {', '.join(FORMATS)}, or IDX files")
    if idx is None and not has_splits and split != "train":
        raise UserError(
            f"{path}: has no split {split!r} (IDX folders and npz may have); point `path` at the test images instead"
        )
    return source


def _located(path: Path | None) -> Path:
    """The path that is meant; without one, or by its name, Fashion-MNIST in the data folder."""
    found = os.path.expanduser(path or "")  # Path's own raises where there is no such user
    if path is not None and os.path.exists(found):
        return Path(found)
    if path is not None and str(path) != FASHION_MNIST:
        raise UserError(
            f"{whereabouts(path)}: no such file or folder; give `path` a folder, a zip, an npz or an IDX file of images"
        )
    data = os.environ.get("GOEMBED_DATA")
    if not data:
        raise UserError(
            "no images given: set `path` to a folder, a zip, an npz or an IDX file of images, or the environment "
            "variable GOEMBED_DATA to the folder that holds fashion_mnist/ with its four IDX files"
        )
    folder = Path(data).expanduser() / "fashion_mnist"
    if not folder.is_dir():
        raise UserError(
            f"GOEMBED_DATA={data} has no folder fashion_mnist; put train-images-idx3-ubyte.gz, "
            "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz there, or set `path`"
        )
    return folder


def _idx_file(folder: Path, split: Literal["train", "test"]) -> Path | None:
    """The image file of a split, or `None` in a folder without IDX files."""
    files = sorted(file for file in folder.iterdir() if "-idx3-ubyte" in file.name and not file.name.startswith("."))
    if not files:
        return None
    prefixes = ("train",) if split == "train" else ("t10k", "test")
    for file in files:
        if file.name.startswith(prefixes):
            return file
    names = ", ".join(file.name for file in files)
    raise UserError(
        f"{folder}: no IDX file of the split {split!r} ({prefixes[0]}-images-idx3-ubyte[.gz]) among {names}"
    )


def _is_image(name: PurePosixPath) -> bool:
    """By its suffix, and neither hidden nor the droppings of an archiver."""
    return name.suffix.lower() in SUFFIXES and not name.name.startswith(".") and "__MACOSX" not in name.parts


def _labels(names: list[str], listing: bytes | None, where: str) -> list[int]:
    """Labels by name from a `dataset.json`; -1 for those that it leaves out, and for all where there is none."""
    if listing is None:
        return [UNKNOWN] * len(names)
    try:
        pairs = json.loads(listing)["labels"]
        labels = {str(name): int(label) for name, label in pairs or ()}
        if not all(-(2**63) <= label < 2**63 for label in labels.values()):
            raise ValueError("a label of more than 64 bits")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f'{where}: expected {{"labels": [["folder/image.png", 3], ...]}} ({error!r})') from error
    return [labels.get(name, UNKNOWN) for name in names]
