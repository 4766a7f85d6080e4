"""Trains the Fashion-MNIST classifier: `python -m goembed_image_datasets.train_classifier --out FILE.safetensors`."""

from __future__ import annotations

import argparse
import sys
import time
from itertools import islice
from pathlib import Path

import torch
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from goembed_image_datasets.classifier import CLASSES, NUM_FEATURES, RESOLUTION, FashionClassifier, fashion_body
from goembed_image_datasets.config import FashionClassifierConfig, ImagesConfig
from goembed_image_datasets.images import ImageDataset
from goembed_image_datasets.sampler import batches

BATCH_SIZE = 128
LEARNING_RATE = 4e-3
WARMUP_FRACTION = 0.2
WEIGHT_DECAY = 0.05
SHIFT_PX = 2


def with_batch_norm(body: nn.Sequential) -> nn.Sequential:
    """The same layers with a batch norm behind each convolution and linear map; `folded` is the way back."""
    layers: list[nn.Module] = []
    for layer in body:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
        elif isinstance(layer, nn.Linear):
            layers.append(nn.BatchNorm1d(layer.out_features))
    return nn.Sequential(*layers)


def folded(body: nn.Sequential) -> nn.Sequential:
    """The layers without their batch norms: `BN(W x + b)` is one affine map once its statistics are fixed."""
    layers: list[nn.Module] = []
    for layer in body.eval():
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d):
            layers[-1] = fuse_linear_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def augmented(images: Float[Tensor, "n 1 32 32"], random: ItemRandom) -> Float[Tensor, "n 1 32 32"]:
    """Each image shifted by up to two pixels on black, and mirrored half of the time."""
    padded = pad(images, (SHIFT_PX,) * 4, value=-1.0)
    down, right, mirrored = random.randint(0, 2 * (2 * SHIFT_PX + 1), 3).unbind(1)
    span = torch.arange(RESOLUTION)
    rows = down[:, None] // 2 + span
    columns = right[:, None] // 2 + torch.where(mirrored[:, None] % 2 == 0, span, span.flip(0))
    item = torch.arange(len(images))[:, None, None]
    return padded[item, 0, rows[:, :, None], columns[:, None, :]][:, None]


def train(dataset: ImageDataset, epochs: int, seed: int) -> nn.Sequential:
    """Minimise the cross-entropy by AdamW, with one linear rise and fall of the learning rate."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(with_batch_norm(fashion_body()), nn.Linear(NUM_FEATURES, len(CLASSES)))
    network.to(memory_format=torch.channels_last)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps_an_epoch = max(1, len(dataset) // BATCH_SIZE)
    total_steps = epochs * steps_an_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=total_steps, pct_start=WARMUP_FRACTION, anneal_strategy="linear"
    )
    loss_sum = 0.0
    for step, batch in enumerate(islice(batches(dataset, seed, 0, BATCH_SIZE), total_steps), start=1):
        images = augmented(batch.images, ItemRandom(seed, batch.positions.tolist(), "augmentation"))
        loss = cross_entropy(network(images), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loss_sum += loss.item()
        if step % steps_an_epoch == 0:
            seconds = time.process_time()
            print(
                f"epoch {step // steps_an_epoch:2d}  loss {loss_sum / steps_an_epoch:.4f}  cpu {seconds:.0f} s",
                flush=True,
            )
            loss_sum = 0.0
    return network


def save(network: nn.Sequential, path: Path, about: str) -> None:
    """Write body and head, the batch norms folded, as float16."""
    body, head = network
    module = nn.ModuleDict({"body": folded(body), "head": head})
    state = {name: value.half().contiguous() for name, value in module.state_dict().items()}
    save_file(state, path, {"about": about})  # one entry: safetensors writes several in any order


@torch.inference_mode()
def predictions(classifier: FashionClassifier, dataset: ImageDataset, batch_size: int = 500) -> Int[Tensor, " items"]:
    """The likeliest class of every image."""
    chunks = torch.arange(len(dataset)).split(batch_size)
    return torch.cat([classifier.logits(dataset.gather(chunk)).argmax(1) for chunk in chunks])


def main(arguments: list[str] | None = None) -> None:
    """Train, save, and say the accuracy of what was saved on the test split."""
    parser = argparse.ArgumentParser(prog="python -m goembed_image_datasets.train_classifier", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--data", type=Path, help="folder with the four IDX files; else GOEMBED_DATA/fashion_mnist")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # sums in one order, so that a seed gives one result
    train_set, test_set = (
        ImageDataset(ImagesConfig(path=options.data, split=split, resolution=RESOLUTION, channels=1, cache="memory"))
        for split in ("train", "test")
    )
    for images in (train_set, test_set):
        if not ((images.labels >= 0) & (images.labels < len(CLASSES))).all():
            raise UserError(f"{images.config.path}: has no labels 0...{len(CLASSES) - 1} for all of its images")
    network = train(train_set, options.epochs, options.seed)
    save(network, options.out, f"Fashion-MNIST (MIT), {options.epochs} epochs, seed {options.seed}")

    correct = predictions(FashionClassifier(FashionClassifierConfig(weights=options.out)), test_set) == test_set.labels
    print(f"test accuracy {correct.float().mean():.4f} (n = {len(correct)}) of {options.out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
