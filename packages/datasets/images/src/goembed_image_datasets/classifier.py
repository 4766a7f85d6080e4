"""A small Fashion-MNIST classifier, whose penultimate features measure sets of grey 32x32 images.

Distances made with it carry its name; they are no FID.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from goembed_core.errors import UserError
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import interpolate

from goembed_image_datasets.config import FashionClassifierConfig

RESOLUTION = 32
CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R 601
NUM_FEATURES = 64


class FashionClassifier(nn.Module):
    """`features(images)`: 64 values after a GELU, from five convolutions whose batch norms are folded into them.

    It has no mode of training: its parameters are frozen, and `.train()` changes nothing.
    Differentiable in the images.
    """

    name = "fashion-classifier"
    num_features = NUM_FEATURES
    classes = CLASSES

    def __init__(self, config: FashionClassifierConfig | None = None):
        super().__init__()
        with torch.device("meta"):  # no fresh weights, which would be drawn from torch's global numbers
            self.body = fashion_body()
            self.head = nn.Linear(NUM_FEATURES, len(CLASSES))
        self._load(config.weights if config else None)
        self.requires_grad_(False)

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 64"]:
        """Features of images in [-1, 1]: colour is turned to luminance, other sizes are resized, antialiased."""
        return self.body(_grey_32(images))

    def logits(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 10"]:
        """The unnormalised log-probability of each class of `CLASSES`."""
        return self.head(self(images))

    def _load(self, path: Path | None) -> None:
        """The weights of a file, or those shipped."""
        file = files("goembed_image_datasets") / "weights" / "fashion_classifier.safetensors" if path is None else path
        try:
            state = {name: value.float() for name, value in load(file.read_bytes()).items()}
            self.load_state_dict(state, assign=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise UserError(
                f"{file}: not the weights of a fashion-classifier ({error}); "
                "expected a file by `python -m goembed_image_datasets.train_classifier`"
            ) from error


def fashion_body() -> nn.Sequential:
    """The network from grey 32x32 to features, with fresh weights."""
    return nn.Sequential(
        *(nn.Conv2d(1, 24, 5, stride=2, padding=2), nn.LeakyReLU(0.1)),  # 16x16
        *(nn.Conv2d(24, 24, 3, padding=1), nn.LeakyReLU(0.1)),
        *(nn.Conv2d(24, 48, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU(0.1)),  # 8x8
        *(nn.Conv2d(48, 48, 3, padding=1), nn.LeakyReLU(0.1)),
        *(nn.Conv2d(48, 96, 3, padding=1), nn.MaxPool2d(2), nn.LeakyReLU(0.1)),  # 4x4
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Linear(96, NUM_FEATURES), nn.GELU()),  # smooth and never quite dead: the features' covariance is regular
    )


def _grey_32(images: Tensor) -> Float[Tensor, "n 1 32 32"]:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise UserError(
            f"fashion-classifier was given {images.dtype} of shape {tuple(images.shape)}; "
            "expected floating-point images in [-1, 1] of shape (n, 1, H, W) or (n, 3, H, W)"
        )
    images = images.float()
    if images.shape[1] == 3:
        images = torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMINANCE))[:, None]
    if images.shape[-2:] != (RESOLUTION, RESOLUTION):
        images = interpolate(images, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True, align_corners=False)
    return images
