"""Folders and zips: what is found, in which order, and in which shape it comes."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_image_datasets.config import ImagesConfig
from goembed_image_datasets.images import ImageDataset, read_image
from PIL import Image

NAMES = ["a.png", "b/0.PNG", "b/deep/x.webp", "c.jpg", "d.png", "e.jpeg"]


def dataset(path, **settings):
    return ImageDataset(ImagesConfig(path=path, **{"resolution": 8} | settings))


def test_a_folder_is_read_recursively_and_sorted(folder, picture):
    images = dataset(folder)
    assert images.source.names == NAMES
    for index in (0, 1, 2, 4):  # the lossless ones
        expected = np.asarray(picture(index)).transpose(2, 0, 1) / 127.5 - 1
        assert np.allclose(images[index].image, expected, atol=1e-6)
    assert images.image_shape == (3, 8, 8)
    assert images[0].image.dtype == torch.float32


def test_a_zip_holds_the_same_images(folder, zipped):
    plain, packed = dataset(folder), dataset(zipped)
    assert packed.source.names == NAMES
    everything = torch.arange(6)
    assert torch.equal(plain.gather(everything), packed.gather(everything))


@pytest.mark.parametrize("xflip", [False, True])
def test_the_cache_changes_nothing(folder, xflip):
    cached, read = (dataset(folder, cache=cache, xflip=xflip) for cache in ("memory", "none"))
    assert (cached.in_memory, read.in_memory) == (True, False)
    order = torch.tensor([3, 0, 5, 0]) + (6 if xflip else 0)
    assert torch.equal(cached.gather(order), read.gather(order))
    assert torch.equal(cached.gather(order)[1], cached[int(order[1])].image)


def test_mirrored_images_come_after_the_others(folder):
    images = dataset(folder, xflip=True)
    assert (len(images), images.num_images) == (12, 6)
    assert torch.equal(images[8].image, images[2].image.flip(-1))
    assert not torch.equal(images[8].image, images[2].image)


def test_labels_of_a_listing(folder, zipped):
    assert dataset(folder).labels.tolist() == [-1] * 6
    listing = json.dumps({"labels": [["b/0.PNG", 4], ["d.png", 0]]})
    (folder / "dataset.json").write_text(listing)
    with zipfile.ZipFile(zipped, "a") as file:
        file.writestr("dataset.json", listing)
    for path in (folder, zipped):
        assert dataset(path).labels.tolist() == [-1, 4, -1, -1, 0, -1]
        assert dataset(path)[1].label == 4
        assert dataset(path, xflip=True)[7].label == 4
    (folder / "dataset.json").write_text(json.dumps({"labels": None}))  # what the tools of StyleGAN write without any
    assert dataset(folder).labels.tolist() == [-1] * 6


@pytest.mark.parametrize("listing", ["{", "[]", '{"labels": 3}', '{"labels": [["a.png", [1, 2]]]}'])
def test_a_listing_that_says_nothing(folder, listing):
    (folder / "dataset.json").write_text(listing)
    with pytest.raises(UserError, match=r"dataset.json: expected \{\"labels\""):
        dataset(folder)


def test_the_three_fits(tmp_path):
    Image.fromarray(np.tile(np.repeat(np.uint8([40, 200, 90, 10]), 4), (8, 1))).save(tmp_path / "wide.png")  # 16x8
    black, rows = -1.0, slice(None)
    padded = dataset(tmp_path, fit="pad", resolution=16)[0].image[0]
    assert (padded[:4] == black).all() and (padded[12:] == black).all() and (padded[4:12] > black).all()
    cropped = dataset(tmp_path, fit="crop", resolution=8)[0].image[0]
    assert torch.allclose((cropped[rows, [0, 7]] + 1) * 127.5, torch.tensor([200.0, 90.0]), atol=1e-3)
    resized = dataset(tmp_path, fit="resize", resolution=8)[0].image[0]
    assert (resized[:, 0] < resized[:, 3]).all() and (resized[:, 7] < resized[:, 4]).all()
    shrunk = dataset(tmp_path, fit="pad", resolution=8)[0].image[0]
    assert (shrunk[:2] == black).all() and (shrunk[2:6] > black).any()


def test_channels(tmp_path, picture):
    picture(0, mode="L").save(tmp_path / "0.png")
    assert dataset(tmp_path).image_shape == (1, 8, 8)
    assert torch.equal(dataset(tmp_path, channels=3)[0].image[2], dataset(tmp_path)[0].image[0])
    picture(1).save(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"1\.png: is in colour, the first image of the set is grey; set `channels`"):
        dataset(tmp_path)
    grey = dataset(tmp_path, channels=1)[1].image
    luminance = (np.asarray(picture(1)) @ [0.299, 0.587, 0.114]) / 127.5 - 1
    assert np.allclose(grey[0], luminance, atol=1 / 127)


def test_modes_come_out_as_they_look(tmp_path):
    deep = np.full((4, 4), 0x8000, np.uint16)
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[..., 0], clear[:2, :, 3] = 255, 255  # red, its lower half transparent
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.new("CMYK", (4, 4)).save(tmp_path / "cmyk.jpg", quality=100)
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "bits.png")
    assert torch.allclose(read_image(tmp_path / "deep.png", 1), torch.tensor(128 / 127.5 - 1), atol=1e-6)
    colour = read_image(tmp_path / "clear.png", 3)
    assert (colour[0, :2] == 1).all() and (colour[:, 2:] == -1).all() and (colour[1:] == -1).all()
    assert (read_image(tmp_path / "cmyk.jpg", 3) > 0.98).all()
    assert torch.equal(read_image(tmp_path / "bits.png", 1)[0], torch.eye(4) * 2 - 1)


def test_a_photograph_lies_upright(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it
    picture(0, (6, 4)).save(tmp_path / "x.png", exif=exif)
    expected = np.asarray(picture(0, (6, 4)).rotate(-90, expand=True)).transpose(2, 0, 1)
    assert np.allclose((read_image(tmp_path / "x.png", 3) + 1) * 127.5, expected, atol=1e-3)


def test_sizes_as_stored(tmp_path, picture):
    picture(0, (6, 4)).save(tmp_path / "0.png")
    assert dataset(tmp_path, resolution=None).image_shape == (3, 4, 6)
    picture(1, (5, 4)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"1\.png: is 5x4 pixels, the first image is 6x4; set `resolution`"):
        dataset(tmp_path, resolution=None)


def test_an_image_is_one_observation_of_one_signal(folder):
    images = dataset(folder)
    observations = images.observations(torch.tensor([1, 3]))
    assert observations.values.shape == (2, 1, 3, 8, 8)
    assert torch.equal(observations.values[:, 0], images.gather(torch.tensor([1, 3])))
    assert tuple(observations.params) == ()


def test_require(folder):
    dataset(folder).require(6)
    with pytest.raises(UserError, match="has 6 images, 7 were asked for"):
        dataset(folder, xflip=True).require(7)


@pytest.mark.parametrize("index", [6, -7])
def test_items_out_of_range(folder, index):
    with pytest.raises(IndexError, match="of a set of 6"):
        dataset(folder)[index]
    with pytest.raises(IndexError, match="of a set of 6"):
        dataset(folder).gather(torch.tensor([0, index]))
    assert torch.equal(dataset(folder)[-1].image, dataset(folder)[5].image)


def test_an_open_zip_can_be_pickled(zipped):
    images = dataset(zipped, cache="none")
    assert torch.equal(pickle.loads(pickle.dumps(images))[2].image, images[2].image)


def test_own_image(folder):
    image = read_image(folder / "a.png", channels=3, resolution=4)
    assert image.shape == (3, 4, 4) and image.abs().max() <= 1
    assert torch.equal(read_image(str(folder / "a.png"), channels=3), dataset(folder)[0].image)
    with pytest.raises(UserError, match="no such file; expected one image file"):
        read_image(folder / "z.png", channels=3)
    with pytest.raises(UserError, match="is a folder; expected one image file"):
        read_image(folder, channels=3)
