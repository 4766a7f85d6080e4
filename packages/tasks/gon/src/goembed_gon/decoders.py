"""Decoders as forward models: the signal is a latent, the observation the image that it stands for.

No normalisation sees another image: GON's batch normalisation would make a latent depend on its neighbours.  Smooth
activations, weights of a size that keeps variances (He et al. 2015), and the encoding's learned scale take its place.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Protocol

import torch
from goembed_core.errors import UserError
from goembed_core.traits import ForwardModelTraits
from goembed_image_datasets.images import WholeImage
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_gon.config import ImageDecoderConfig, LatentConfig, SirenDecoderConfig


class Decoder(Protocol):
    """What the task asks of a decoder beyond being a forward model with an origin."""

    head: Head

    def logits(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channels height width"]:
        """What an image is the sigmoid of."""
        ...


class Head(nn.Module):
    """The distribution that a signal stands for: itself; or, variational, a Gaussian."""

    def __init__(self, config: LatentConfig):
        super().__init__()
        self.size = config.latent
        self.variational = config.variational
        if config.variational:
            self.mean_of = nn.Linear(config.latent, config.latent)
            self.log_variance_of = nn.Linear(config.latent, config.latent)

    def mean(self, signal: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """The latent, or its mean."""
        if signal.dim() != 2 or signal.shape[1] != self.size:
            raise UserError(f"a signal of shape {tuple(signal.shape)}, expected (batch, latent={self.size})")
        return self.mean_of(signal) if self.variational else signal

    def log_variance(self, signal: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """The logarithm of its variance; of a variational head alone."""
        return self.log_variance_of(signal)

    def origin(self, batch_size: int, device: torch.device) -> Float[Tensor, "batch latent"]:
        """Zeros."""
        return torch.zeros(batch_size, self.size, device=device)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, WholeImage]:
        """Random signals."""
        return torch.randn(batch_size, self.size, generator=generator), WholeImage()


class ImageDecoder(nn.Module):
    """`O = 2 σ(convolutions(S)) − 1`, images (B, 1, C, 32, 32) of vectors (B, latent).

    A variational one shows the mean that the signal stands for.
    """

    conformance = ForwardModelTraits(twice_differentiable=True, compiles=True)

    def __init__(self, config: ImageDecoderConfig):
        super().__init__()
        self.config = config
        self.head = Head(config)
        w = config.width
        layers: list[nn.Module] = []
        for before, after, kernel in (
            (config.latent, 4 * w, (4, 1, 0)), (4 * w, 2 * w, (4, 2, 1)), (2 * w, w, (4, 2, 1)),
        ):  # fmt: skip
            layers += [nn.ConvTranspose2d(before, after, *kernel)]
            layers += [nn.GroupNorm(min(8, after), after)] if config.norm == "group" else []
            layers += [nn.ELU()]
        self.network = nn.Sequential(*layers, nn.ConvTranspose2d(w, config.channels, 4, 2, 1))
        for layer in self.network:
            if isinstance(layer, nn.ConvTranspose2d):
                taps = math.prod(k / s for k, s in zip(layer.kernel_size, layer.stride, strict=True))
                taps = 1 if layer.stride == (1, 1) else taps  # of a 1 x 1 input each output sees one
                nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_channels * taps))
                nn.init.normal_(layer.bias, std=0.1)

    def forward(self, signal: Float[Tensor, "batch latent"], params: WholeImage) -> Float[Tensor, "batch 1 c h w"]:
        """The image of each signal, as the one observation of it."""
        return 2 * torch.sigmoid(self.logits(self.head.mean(signal)))[:, None] - 1

    def logits(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch c h w"]:
        """What an image is the sigmoid of."""
        return self.network(z[:, :, None, None])

    def origin(self, batch_size: int, device: torch.device) -> Float[Tensor, "batch latent"]:
        """Zeros."""
        return self.head.origin(batch_size, device)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, WholeImage]:
        """Random signals."""
        return self.head.example(batch_size, generator)


class SirenDecoder(nn.Module):
    """`O(x) = 2 σ(f(x, S)) − 1` at every pixel's place `x`, `f` a network of sines (Sitzmann et al. 2020)."""

    conformance = ForwardModelTraits(twice_differentiable=True, compiles=True)

    def __init__(self, config: SirenDecoderConfig):
        super().__init__()
        self.config = config
        self.head = Head(config)
        widths = [config.hidden_size] * config.depth
        self.of_place = nn.Linear(2, widths[0])
        self.of_latent = nn.Linear(config.latent, widths[0], bias=False)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.last = nn.Linear(widths[-1], config.channels)
        fan = 2 + config.latent
        for layer in (self.of_place, self.of_latent):
            nn.init.uniform_(layer.weight, -1 / fan, 1 / fan)
        for layer in (*self.hidden, self.last):
            bound = math.sqrt(6 / layer.in_features) / config.omega
            nn.init.uniform_(layer.weight, -bound, bound)
        steps = (torch.arange(config.resolution) + 0.5) * (2 / config.resolution) - 1
        places = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).flatten(0, 1)
        self.register_buffer("places", places, persistent=False)

    def forward(self, signal: Float[Tensor, "batch latent"], params: WholeImage) -> Float[Tensor, "batch 1 c h w"]:
        """The image of each signal, as the one observation of it."""
        return 2 * torch.sigmoid(self.logits(self.head.mean(signal)))[:, None] - 1

    def logits(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch c h w"]:
        """What an image is the sigmoid of."""
        omega, side = self.config.omega, self.config.resolution
        # A latent has one value at all places: its part of the first layer is computed once.
        x = torch.sin(omega * (self.of_place(self.places) + self.of_latent(z)[:, None]))
        for layer in self.hidden:
            x = torch.sin(omega * layer(x))
        return self.last(x).mT.unflatten(2, (side, side))

    def origin(self, batch_size: int, device: torch.device) -> Float[Tensor, "batch latent"]:
        """Zeros."""
        return self.head.origin(batch_size, device)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, WholeImage]:
        """Random signals."""
        return self.head.example(batch_size, generator)


def binary_cross_entropy(
    logits: Float[Tensor, "batch c h w"], images: Float[Tensor, "batch c h w"]
) -> Float[Tensor, " batch"]:
    """Mean over the numbers of each image in [-1, 1]."""
    return F.binary_cross_entropy_with_logits(logits, (images + 1) / 2, reduction="none").flatten(1).mean(1)
