"""The file with all pixels: the same to the last bit, and of no other content than that of the folder."""

import os

import pytest
import torch
from goembed_core.errors import UserError
from goembed_multiview_datasets.config import OmniObjectConfig
from goembed_multiview_datasets.objects import omniobject3d
from PIL import Image
from safetensors import safe_open


@pytest.fixture
def omni(tmp_path, room):
    """Four objects, two of which have pictures with holes."""
    root = tmp_path / "omni"
    for number in range(4):
        folder = root / "box" / f"box_{number:03}"
        room.omniobject(folder, room.shots(3, 16, 16, seed=number, centred=True))
        if number % 2:
            for path in (folder / "render" / "images").iterdir():
                with Image.open(path) as image:
                    image.putalpha(image.convert("L"))
                    image.save(path)
    return root


def leaves(item):
    return [item.images, item.alpha, item.near_far, *item.camera]


@pytest.mark.parametrize("given", [{}, {"size": 8, "views": 2, "draws": 3, "background": "black"}, {"split": "train"}])
def test_what_is_packed_is_what_is_in_the_files(omni, given):
    plain, packed, again = (
        omniobject3d(OmniObjectConfig(path=omni, holdout=2, packed=packed, **given)) for packed in (False, True, True)
    )
    assert plain.names == packed.names == again.names and len(plain) > 1
    for one, two, three in zip(plain, packed, again, strict=True):
        for found in (two, three):
            assert all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(found), strict=True))


def test_splits_share_a_file_that_is_made_once(omni):
    file = omni.with_name("omni.packed.safetensors")
    test = omniobject3d(OmniObjectConfig(path=omni, holdout=2, split="test", packed=True))
    stamp = file.stat().st_mtime_ns
    train = omniobject3d(OmniObjectConfig(path=omni, holdout=2, split="train", packed=True))
    assert file.stat().st_mtime_ns == stamp and test.names == ["box_000", "box_002"]
    assert train.names == ["box_001", "box_003"] and not torch.equal(train[0].images, test[0].images)
    with safe_open(file, "pt") as content:
        assert content.get_slice("rgba").get_shape() == [4, 3, 16, 16, 4]


def test_other_content_is_packed_anew(omni):
    """Even where neither size nor time of a file say that it is another."""
    settings = OmniObjectConfig(path=omni, packed=True)
    path = omni / "box" / "box_000" / "render" / "images" / "r_1.png"
    Image.new("RGB", (16, 16), (1, 2, 3)).save(path)
    before, state = omniobject3d(settings)[0].images[1], path.stat()
    Image.new("RGB", (16, 16), (1, 2, 4)).save(path)
    assert path.stat().st_size == state.st_size
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    after = omniobject3d(settings)[0].images[1]
    assert torch.allclose(before[2], torch.tensor(3 / 255)) and torch.allclose(after[2], torch.tensor(4 / 255))
    file = omni.with_name("omni.packed.safetensors")
    for damaged in (file.read_bytes()[:1000], b""):
        file.write_bytes(damaged)
        assert torch.equal(omniobject3d(settings)[0].images[1], after)
    transforms = omni / "box" / "box_003" / "render" / "transforms.json"
    transforms.write_text(transforms.read_text().replace('"camera_angle_x": ', '"camera_angle_x": 0.5, "was": '))
    found = omniobject3d(settings)[3].camera.intrinsics
    assert torch.equal(found, omniobject3d(OmniObjectConfig(path=omni))[3].camera.intrinsics)


def test_what_cannot_be_packed(omni, room):
    room.omniobject(omni / "box" / "large", room.shots(3, 20, 20, centred=True))
    with pytest.raises(UserError, match=r"large\S*: its views are not as many and as large as those of \S*box_000"):
        omniobject3d(OmniObjectConfig(path=omni, packed=True))
    room.omniobject(omni / "box" / "large", room.shots(2, 16, 16, centred=True))
    with pytest.raises(UserError, match="can not be packed with them; leave out packed=true"):
        omniobject3d(OmniObjectConfig(path=omni, packed=True))
