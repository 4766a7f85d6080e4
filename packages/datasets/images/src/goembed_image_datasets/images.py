"""Sets of single images: each is one observation of one signal."""

from __future__ import annotations

import logging
from typing import NamedTuple, Protocol

import numpy as np
import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from goembed_image_datasets.config import ImagesConfig
from goembed_image_datasets.decode import fit_square, read_image, to_array, to_float
from goembed_image_datasets.sources import open_source

__all__ = ["ImageDataset", "ImageItem", "ImageSet", "WholeImage", "read_image"]

AUTO_CACHE_BYTES = 2 * 2**30
log = logging.getLogger(__name__)


class ImageItem(NamedTuple):
    """One image in [-1, 1] and its label."""

    image: Float[Tensor, "channels height width"]
    label: int  # -1: unknown


class WholeImage(NamedTuple):
    """The `φ` of an observation that shows the signal itself: no parameters."""


class ImageSet(Protocol):
    """What a task of single images takes of a dataset, beyond what all have."""

    image_shape: tuple[int, int, int]


class ImageDataset(Dataset[ImageItem]):
    """The images of a folder, a zip, an npz or an IDX file, as float32 in [-1, 1].

    With `xflip`, the items from `num_images` on are the mirrored ones.
    """

    def __init__(self, config: ImagesConfig):
        self.config = config
        self.source = open_source(config.path, config.split)
        self.fit = self.source.default_fit if config.fit == "auto" else config.fit
        self._kept = list(range(len(self.source.names)))
        self.channels, self.height, self.width = self._first_shape()
        self._pixels = self._read_all() if self._wants_memory() else None
        if self._pixels is None and config.on_error == "skip":
            self._kept = [index for index in self._kept if self._readable(index) is not None]
            self._say_what_was_skipped()
        labels = [self.source.labels[index] for index in self._kept]
        self.labels: Int[Tensor, " items"] = torch.tensor(labels).repeat(2 if config.xflip else 1)

    @property
    def num_images(self) -> int:
        """How many different images there are: mirrored ones do not count."""
        return len(self._kept)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        return self.channels, self.height, self.width

    @property
    def in_memory(self) -> bool:
        """Whether the images are kept decoded."""
        return self._pixels is not None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> ImageItem:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of a set of {len(self)}")
        index %= len(self)
        return ImageItem(self.gather(torch.tensor([index]))[0], int(self.labels[index]))

    def gather(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "n channels height width"]:
        """The images of `indices` at once, on their device."""
        items = indices.cpu()
        if items.numel() and (int(items.min()) < 0 or int(items.max()) >= len(self)):
            raise IndexError(f"items {int(items.min())}...{int(items.max())} of a set of {len(self)}")
        images = to_float(self._gather_pixels(items % self.num_images).to(indices.device))
        mirrored = (indices >= self.num_images)[:, None, None, None]
        return torch.where(mirrored, images.flip(-1), images) if self.config.xflip else images

    def observations(self, indices: Int[Tensor, " n"]) -> Observations:
        """The images as one observation of each signal: values `(B, 1, C, H, W)`, nothing in `φ`."""
        return Observations(self.gather(indices)[:, None], WholeImage())

    def require(self, n: int) -> None:
        """Raise `UserError` if there are fewer than `n` different images."""
        if self.num_images < n:
            raise UserError(
                f"{self.config.path or 'fashion-mnist'} has {self.num_images} images, {n} were asked for; "
                "ask for fewer or add images"
            )

    def _first_shape(self) -> tuple[int, int, int]:
        """The shape of every image, by the first one that can be read; its channels unless they are set."""
        for index in self._kept:
            try:
                image = self.source.read(index)
            except UserError as error:
                if self.config.on_error == "raise":
                    raise
                last = error
                continue
            resolution = self.config.resolution
            width, height = (resolution, resolution) if resolution else image.size
            return self.config.channels or (1 if image.mode == "L" else 3), height, width
        raise UserError(f"{self.config.path}: none of its {len(self._kept)} images can be read; the last one: {last}")

    def _wants_memory(self) -> bool:
        bytes_needed = len(self._kept) * self.channels * self.height * self.width
        return self.config.cache == "memory" or (self.config.cache == "auto" and bytes_needed <= AUTO_CACHE_BYTES)

    def _read_all(self) -> UInt8[Tensor, "n channels height width"]:
        pixels = np.empty((len(self._kept), *self.image_shape), np.uint8)
        kept = []
        for index in self._kept:
            image = self._readable(index)
            if image is not None:
                pixels[len(kept)] = image
                kept.append(index)
        self._kept = kept
        self._say_what_was_skipped()
        return torch.from_numpy(pixels[: len(kept)])

    def _say_what_was_skipped(self) -> None:
        skipped = len(self.source.names) - len(self._kept)
        if skipped:
            log.warning("%s: left out %d of %d images", self.config.path, skipped, len(self.source.names))

    def _gather_pixels(self, items: Int[Tensor, " n"]) -> UInt8[Tensor, "n channels height width"]:
        if self._pixels is not None:
            return self._pixels[items]
        pixels = np.empty((len(items), *self.image_shape), np.uint8)
        for row, item in enumerate(items.tolist()):
            pixels[row] = self._array(self._kept[item])
        return torch.from_numpy(pixels)

    def _readable(self, index: int) -> UInt8[np.ndarray, "channels height width"] | None:
        """The pixels of a source's item; `None` for one to be skipped."""
        try:
            return self._array(index)
        except UserError as error:
            if self.config.on_error == "raise":
                raise
            log.warning("skipped: %s", error)
            return None

    def _array(self, index: int) -> UInt8[np.ndarray, "channels height width"]:
        """The pixels of a source's item, of the set's shape."""
        image = self.source.read(index)
        if self.config.channels is None and self.channels == 1 and image.mode != "L":
            raise UserError(
                f"{self.source.names[index]}: is in colour, the first image of the set is grey; "
                "set `channels` to 1 or 3 to bring all to one kind"
            )
        if self.config.resolution is not None:
            image = fit_square(image, self.config.resolution, self.fit)
        if image.size != (self.width, self.height):
            raise UserError(
                f"{self.source.names[index]}: is {image.width}x{image.height} pixels, the first image is "
                f"{self.width}x{self.height}; set `resolution` to bring all to one size"
            )
        return to_array(image, self.channels)
