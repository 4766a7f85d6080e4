"""What can be asked of an image set and of its feature network; importing this module does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from goembed_core.config import Config
from pydantic import Field


class ImagesConfig(Config):
    """Where the images are and the shape they are brought to."""

    path: Path | None = Field(
        None,
        description="folder, zip, npy, npz, IDX file, or folder with IDX files; left out or `fashion-mnist`: "
        "the folder fashion_mnist in the folder that the environment variable GOEMBED_DATA names",
    )
    split: Literal["train", "test"] = Field(
        "train", description="which IDX files of a folder, or arrays of an npz; other sets have no splits"
    )
    resolution: int | None = Field(
        32, ge=1, le=16384, description="side of the square images; null: as stored, which must be one size for all"
    )
    fit: Literal["auto", "pad", "crop", "resize"] = Field(
        "auto",
        description="how an image gets to `resolution`: pad = never enlarge, black all round (28 -> 32 adds 2 a side); "
        "crop = the largest centred square, resized; resize = all of it, whatever its aspect; "
        "auto = pad for IDX and arrays, crop otherwise",
    )
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour; null: as the first image has them")
    cache: Literal["memory", "none", "auto"] = Field(
        "auto", description="memory = decoded once and kept, one byte a value; auto = memory up to 2 GiB"
    )
    xflip: bool = Field(False, description="also every image mirrored: the set is twice as long")
    on_error: Literal["raise", "skip"] = Field(
        "raise",
        description="an unreadable image: stop, or leave it out (reads every image once when the set is opened)",
    )


class FashionClassifierConfig(Config):
    """Which weights the Fashion-MNIST classifier has."""

    weights: Path | None = Field(
        None, description="safetensors by `python -m goembed_image_datasets.train_classifier`; left out: those shipped"
    )
