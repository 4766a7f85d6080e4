"""What every dataset has to hold to, for each layout."""

from pathlib import Path

import pytest
from goembed_core.testing import parametrize_dataset
from goembed_multiview_datasets.blender import blender
from goembed_multiview_datasets.config import BlenderConfig, LlffConfig
from goembed_multiview_datasets.llff import llff

FOLDER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory, room):
    FOLDER[:] = [tmp_path_factory.mktemp("scenes")]
    for number in range(3):
        for kind, write in (("transforms", room.transforms), ("llff", room.llff)):
            folder = FOLDER[0] / kind / str(number)
            folder.mkdir(parents=True)
            write(folder, room.shots(4, seed=number, centred=True))


@parametrize_dataset(lambda: blender(BlenderConfig(path=FOLDER[0] / "transforms", split="all")))
def test_transforms_conform(check):
    check()


@parametrize_dataset(lambda: llff(LlffConfig(path=FOLDER[0] / "llff", split="all", factor=1, views=2, draws=3, size=8)))
def test_llff_conforms(check):
    check()
