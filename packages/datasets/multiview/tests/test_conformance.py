"""What every dataset has to hold to, for each layout."""

from pathlib import Path

import pytest
from goembed_core.testing import parametrize_dataset
from goembed_multiview_datasets.blender import blender
from goembed_multiview_datasets.boxes import BoxDataset
from goembed_multiview_datasets.co3d import co3d
from goembed_multiview_datasets.config import (
    BlenderConfig,
    BoxesConfig,
    Co3dConfig,
    LlffConfig,
    OmniObjectConfig,
    RealEstateConfig,
    SrnConfig,
)
from goembed_multiview_datasets.llff import llff
from goembed_multiview_datasets.objects import omniobject3d, srn
from goembed_multiview_datasets.realestate import realestate10k

FOLDER: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory, room):
    FOLDER[:] = [tmp_path_factory.mktemp("scenes")]
    films = []
    for number in range(3):
        for kind, write in (("transforms", room.transforms), ("llff", room.llff)):
            folder = FOLDER[0] / kind / str(number)
            folder.mkdir(parents=True)
            write(folder, room.shots(4, seed=number, centred=True))
        square = room.shots(4, 16, 16, seed=number, centred=True)
        room.omniobject(FOLDER[0] / "omni" / "box" / f"box_{number}", square)
        room.srn(FOLDER[0] / "srn" / "cars_train" / f"{number}", square)
        room.realestate(FOLDER[0] / "clips" / "train" / f"{number}.txt", square, "video", 100 + 500 * number)
        films += [room.photograph(shot) for shot in square]
        films += films[-1:]
    room.video(FOLDER[0] / "videos" / "video.mkv", films[:1] + films)
    room.co3d(FOLDER[0] / "co3d", "vase", {f"{n}_0_0": room.shots(4, 16, 20, seed=n) for n in range(3)})


@parametrize_dataset(lambda: blender(BlenderConfig(path=FOLDER[0] / "transforms", split="all")))
def test_transforms_conform(check):
    check()


@parametrize_dataset(lambda: llff(LlffConfig(path=FOLDER[0] / "llff", split="all", factor=1, views=2, draws=3, size=8)))
def test_llff_conforms(check):
    check()


@parametrize_dataset(lambda: omniobject3d(OmniObjectConfig(path=FOLDER[0] / "omni")))
def test_omniobject3d_conforms(check):
    check()


@parametrize_dataset(lambda: omniobject3d(OmniObjectConfig(path=FOLDER[0] / "omni", packed=True, size=8)))
def test_packed_views_conform(check):
    check()


@parametrize_dataset(lambda: srn(SrnConfig(path=FOLDER[0] / "srn")))
def test_srn_conforms(check):
    check()


@parametrize_dataset(lambda: co3d(Co3dConfig(path=FOLDER[0] / "co3d", split="all", masks=True, size=8)))
def test_co3d_conforms(check):
    check()


@parametrize_dataset(
    lambda: realestate10k(
        RealEstateConfig(path=FOLDER[0] / "clips", videos=FOLDER[0] / "videos", views=2, window=3, draws=2)
    )
)
def test_realestate10k_conforms(check):
    check()


@parametrize_dataset(lambda: BoxDataset(BoxesConfig(boxes=2, size=16)))
def test_boxes_conform(check):
    check()
