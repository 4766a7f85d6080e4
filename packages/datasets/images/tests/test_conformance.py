"""What every dataset has to hold to, kept decoded and read from the files each time."""

from pathlib import Path

import pytest
from goembed_core.testing import parametrize_dataset
from goembed_image_datasets.config import ImagesConfig
from goembed_image_datasets.images import ImageDataset

FOLDER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory, picture):
    FOLDER[:] = [tmp_path_factory.mktemp("pictures")]
    for index in range(6):
        picture(index).save(FOLDER[0] / f"{index}.png")


@parametrize_dataset(lambda: ImageDataset(ImagesConfig(path=FOLDER[0], cache="memory", xflip=True)))
def test_in_memory_conforms(check):
    check()


@parametrize_dataset(lambda: ImageDataset(ImagesConfig(path=FOLDER[0], cache="none")))
def test_from_files_conforms(check):
    check()
