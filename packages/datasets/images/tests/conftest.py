"""Small image sets, made on the spot."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from goembed_image_datasets.idx import write_idx
from PIL import Image


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """Pictures of noise: `picture(index)` is like no other index."""

    def draw(index: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
        return Image.fromarray(np.random.default_rng(index).integers(0, 256, shape, np.uint8))

    return draw


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Image.Image]) -> Path:
    """Six colour pictures in three formats, two of them deeper down, and things that are no pictures."""
    root = tmp_path / "photos"
    (root / "b" / "deep").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b/0.PNG", "b/deep/x.webp", "c.jpg", "d.png", "e.jpeg")):
        options = {"lossless": True} if name.endswith("webp") else {}
        picture(index).save(root / name, **options)
    (root / "notes.txt").write_text("not a picture")
    (root / "._a.png").write_bytes(b"what an archiver leaves behind")
    return root


@pytest.fixture
def zipped(folder: Path) -> Path:
    """The same files in a zip, in another order, with a folder entry and an archiver's droppings."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("b/", b"")
        file.writestr("__MACOSX/a.png", b"droppings")
        for image in sorted((item for item in folder.rglob("*") if item.is_file()), reverse=True):
            file.write(image, image.relative_to(folder).as_posix())
    return path


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """Twelve training and five test images of 28x28 with labels, the test ones gzipped."""
    root = tmp_path / "idx"
    root.mkdir()
    rng = np.random.default_rng(0)
    for prefix, count, ending in (("train", 12, ""), ("t10k", 5, ".gz")):
        write_idx(root / f"{prefix}-images-idx3-ubyte{ending}", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(root / f"{prefix}-labels-idx1-ubyte{ending}", np.arange(count, dtype=np.uint8))
    return root


@pytest.fixture
def fashion_mnist() -> Path:
    """The real set, where it is there."""
    path = Path(os.environ.get("GOEMBED_DATA", "")) / "fashion_mnist"
    if "GOEMBED_DATA" not in os.environ or not path.is_dir():
        pytest.skip("GOEMBED_DATA names no folder with fashion_mnist")
    return path
