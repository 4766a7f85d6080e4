"""What objects and backgrounds are painted with: windows of pictures that have something in them."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_video_datasets.config import SpritesConfig
from goembed_video_datasets.sprites import SpriteDataset
from goembed_video_datasets.textures import TextureBank, noise, scales, windows
from PIL import Image


def picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_windows_are_crops_of_the_picture_with_their_mean():
    source = picture(40, 60)
    starts, means = windows(source, 16)
    assert len(starts) == 7 * 12
    for start, mean in zip(starts.tolist()[::9], means[::9], strict=True):
        row, column = divmod(start, 60)
        crop = source[:, row : row + 16, column : column + 16] / 127.5 - 1
        assert crop.shape == (3, 16, 16) and torch.allclose(crop.mean((1, 2)), mean, atol=1e-5)


def test_a_crop_is_a_window_mirrored_or_not():
    source = picture(16, 16)
    bank = TextureBank([source], 16, "here")
    assert len(bank) == 1  # as small as a window: not scaled
    plain = source / 127.5 - 1
    uniform = torch.tensor([[0.0, 0.9, 0.9], [0.5, 0.1, 0.9], [0.99, 0.9, 0.1], [0.3, 0.1, 0.1]])
    crops, means = bank.crop(uniform)
    for crop, expected in zip(crops, (plain, plain.flip(2), plain.flip(1), plain.flip(1, 2)), strict=True):
        assert torch.allclose(crop, expected, atol=1e-6)
    assert torch.allclose(means, plain.mean((1, 2)).expand(4, 3), atol=1e-5)


def test_a_bank_for_another_device_is_made_once():
    bank = TextureBank([picture(16, 16)], 16, "here")
    elsewhere = bank.on(torch.device("meta"))  # which every machine has
    assert bank.on(torch.device("cpu")) is bank and bank.on(torch.device("meta")) is elsewhere
    places = (elsewhere.pixels, elsewhere.starts, elsewhere.strides, elsewhere.means)
    assert {leaf.device.type for leaf in places} == {"meta"} and bank.pixels.device.type == "cpu"
    assert len(pickle.dumps(bank)) < len(pickle.dumps(TextureBank([picture(16, 16)], 16, "here"))) + 100


def test_flat_windows_are_left_out():
    source = picture(64, 64)
    source[:, :, :32] = 90
    starts, _ = windows(source, 16)
    assert len(starts) and (starts % 64 > 16).all()
    with pytest.raises(
        UserError, match=r"here: all is flat, no texture; give `textures` pictures with detail, or `noise`"
    ):
        TextureBank([torch.full((3, 64, 64), 7, dtype=torch.uint8)], 16, "here")


def test_pictures_are_shrunk_and_never_enlarged_for_nothing():
    assert [tuple(s.shape[1:]) for s in scales(picture(480, 640), 32)] == [(64, 85), (128, 171), (256, 341)]
    assert [tuple(s.shape[1:]) for s in scales(picture(100, 100), 32)] == [(64, 64), (100, 100)]
    assert [tuple(s.shape[1:]) for s in scales(picture(20, 40), 32)] == [(32, 64)]


def test_noise_is_always_the_same_and_varied():
    first, again = noise(3, 64), noise.__wrapped__(3, 64)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert min(float(p.float().std()) for p in first) > 20 and not torch.equal(first[0], first[1])


def sprites(textures):
    return SpriteDataset(SpritesConfig(textures=str(textures)))


def test_a_folder_of_ones_own(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 100, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture")
    crops, _ = sprites(tmp_path).backgrounds.crop(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)))
    assert crops.max() < 100 / 127.5 - 1 + 1e-5
    (tmp_path / "b.jpg").write_bytes(b"no picture at all")
    with pytest.raises(UserError, match=r"b\.jpg: is not an image"):
        sprites(tmp_path)
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(UserError, match=r"c\.mp4: cannot be read as a video \(Invalid data.*\); remove it or fetch"):
        sprites(tmp_path)


def test_textures_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nowhere: no such folder; give `textures` a folder of pictures or videos, or"):
        sprites(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no picture and no video"):
        sprites(tmp_path)
    monkeypatch.delenv("GOEMBED_DATA", raising=False)
    with pytest.raises(UserError, match=r"textures=data needs the environment variable GOEMBED_DATA .* textures=noise"):
        sprites("data")
    monkeypatch.setenv("GOEMBED_DATA", str(tmp_path))
    with pytest.raises(UserError, match="has no folder videos; use textures=noise or textures=FOLDER"):
        sprites("data")


def test_the_public_data():
    if not Path(os.environ.get("GOEMBED_DATA", ""), "videos").is_dir() or "GOEMBED_DATA" not in os.environ:
        pytest.skip("GOEMBED_DATA names no folder with videos")
    clips = sprites("data")
    assert len(clips.backgrounds) > 5000 and clips.backgrounds.pixels.numel() < 20e6
    contrast = clips.observations(torch.arange(300)).values[:, 0].flatten(2).std(2).mean(1)
    assert contrast.min() > 0.1
