"""The Fashion-MNIST classifier: how well it names, and what its features bear."""

import re

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import FeatureNetwork
from goembed_core.randomness import ItemRandom
from goembed_image_datasets import train_classifier
from goembed_image_datasets.classifier import CLASSES, FashionClassifier, _grey_32, fashion_body
from goembed_image_datasets.config import FashionClassifierConfig, ImagesConfig
from goembed_image_datasets.idx import write_idx
from goembed_image_datasets.images import ImageDataset
from torch import nn


@pytest.fixture(scope="module")
def classifier():
    return FashionClassifier()


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_names_fashion_mnist(classifier, fashion_mnist):
    dataset = ImageDataset(ImagesConfig(path=fashion_mnist, split="test"))
    dataset.require(10_000)
    correct = train_classifier.predictions(classifier, dataset) == dataset.labels
    assert correct.double().mean() >= 0.91
    for label, name in enumerate(CLASSES):
        assert correct[dataset.labels == label].double().mean() >= 0.7, name


def test_features_have_a_regular_covariance(classifier, fashion_mnist):
    """A Fréchet distance takes roots of covariances: no feature may be dead or a copy of others."""
    dataset = ImageDataset(ImagesConfig(path=fashion_mnist, split="test"))
    features = classifier(dataset.gather(torch.arange(2000))).double()
    values = torch.linalg.eigvalsh(torch.cov(features.T))
    assert values[0] > 1e-5 * values[-1]


def test_it_is_a_feature_network(classifier):
    assert isinstance(classifier, FeatureNetwork)
    features = classifier(noise(3, 1, 32, 32))
    assert features.shape == (3, classifier.num_features) and features.dtype == torch.float32
    assert classifier.logits(noise(3, 1, 32, 32)).shape == (3, 10)
    assert torch.equal(classifier.logits(noise(3, 1, 32, 32)), classifier.head(features))
    assert sum(p.numel() for p in classifier.parameters()) < 1_000_000
    assert not any(p.requires_grad for p in classifier.parameters())


def test_features_of_an_item_do_not_depend_on_the_others_or_on_the_mode(classifier):
    images = noise(4, 1, 32, 32)
    alone = torch.cat([classifier(image[None]) for image in images])
    assert torch.allclose(classifier(images), alone, atol=1e-5)
    assert torch.equal(classifier.train()(images), classifier.eval()(images))


def test_colour_and_other_sizes(classifier):
    grey = noise(2, 1, 32, 32)
    assert torch.allclose(classifier(grey.expand(-1, 3, -1, -1)), classifier(grey), atol=1e-4)
    large = grey.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert classifier(large).shape == (2, 64)
    flat = torch.full((1, 1, 32, 32), 0.3)
    assert torch.allclose(classifier(flat), classifier(torch.full((1, 3, 57, 90), 0.3)), atol=1e-4)
    red = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None].expand(1, 3, 32, 32)
    assert torch.allclose(classifier(red), classifier(torch.full((1, 1, 32, 32), 2 * 0.299 - 1)), atol=1e-4)


def test_what_is_too_fine_to_show_is_averaged_away():
    fine = (torch.arange(160)[:, None] + torch.arange(160)) % 2 * 2.0 - 1
    assert _grey_32(fine.expand(1, 1, -1, -1)).abs().max() < 0.1


def test_building_it_leaves_torchs_numbers_alone():
    state = torch.get_rng_state()
    FashionClassifier()
    assert torch.equal(torch.get_rng_state(), state)


def test_differentiable_in_the_images(classifier):
    images = noise(2, 1, 32, 32).requires_grad_()
    classifier(images).sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "images", [noise(2, 2, 32, 32), noise(3, 32, 32), torch.zeros(1, 1, 32, 32, dtype=torch.uint8)]
)
def test_what_is_no_image(images):
    with pytest.raises(UserError, match="expected floating-point images"):
        _grey_32(images)


def test_weights_that_are_none(tmp_path):
    path = tmp_path / "w.safetensors"
    for write in (lambda: None, lambda: path.write_bytes(b"nonsense")):
        write()
        with pytest.raises(UserError, match="not the weights of a fashion-classifier"):
            FashionClassifier(FashionClassifierConfig(weights=path))


def test_folding_the_batch_norms_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    body = train_classifier.with_batch_norm(fashion_body())
    norms = [layer for layer in body if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == 6
    for layer in norms:
        for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            nn.init.uniform_(value, 0.5, 1.5, generator=generator)
    images = noise(4, 1, 32, 32)
    expected = body.eval()(images)
    plain = train_classifier.folded(body)
    assert [type(layer) for layer in plain] == [type(layer) for layer in fashion_body()]
    assert torch.allclose(plain(images), expected, atol=1e-4)


def test_augmentation_shifts_and_mirrors_each_image_by_itself():
    images = noise(64, 1, 32, 32)
    changed = train_classifier.augmented(images, ItemRandom(0, range(64)))
    mirrored = shifted = 0
    for before, after in zip(images, changed, strict=True):
        found = [
            (flip, down, right)
            for flip in (False, True)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(
                after[0, 4:-4, 4:-4],
                (before.flip(-1) if flip else before)[0, 4 - down : 28 - down, 4 - right : 28 - right],
            )
        ]
        assert len(found) == 1
        mirrored += found[0][0]
        shifted += found[0][1:] != (0, 0)
    assert 16 < mirrored < 48 and shifted > 48
    again = train_classifier.augmented(images[5:6], ItemRandom(0, [5]))
    assert torch.equal(again, changed[5:6])


@pytest.fixture
def stripes(tmp_path):
    """256 images of ten classes that any network can tell apart, as the four IDX files."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 256), ("t10k", 100)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * label : 6 + 2 * label] += 180
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels)
    return tmp_path


def test_training_is_repeatable_and_learns(stripes, capsys):
    threads = torch.get_num_threads()
    files = [stripes / name for name in ("a", "b", "c")]
    for file, seed in zip(files, "001", strict=True):
        train_classifier.main(["--data", str(stripes), "--epochs", "3", "--seed", seed, "--out", str(file)])
    torch.set_num_threads(threads)
    first, again, other = (file.read_bytes() for file in files)
    assert first == again and first != other
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", printed)]
    assert len(losses) == 9 and losses[2] < 0.8 * losses[0]
    assert re.search(r"test accuracy 0\.\d{4} \(n = 100\)", printed)


def test_training_needs_labels(stripes):
    (stripes / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"has no labels 0\.\.\.9 for all of its images"):
        train_classifier.main(["--data", str(stripes), "--out", str(stripes / "w")])
