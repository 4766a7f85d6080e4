"""What gradient origin networks are compared with: the same decoder, and an encoder of as many parameters."""

from __future__ import annotations

import torch
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.traits import EncoderTraits
from goembed_image_datasets.images import WholeImage
from jaxtyping import Float
from torch import Tensor, nn

from goembed_gon.config import ImageEncoderConfig

SIDE = 32


class ImageEncoder(nn.Module):
    """Convolutions from the one observation (B, 1, C, 32, 32) of each signal to a vector (B, latent)."""

    conformance = EncoderTraits(uses_params=False, compiles=True)

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        self.config = config
        w = config.width
        self.network = nn.Sequential(
            nn.Conv2d(config.channels, w, 4, 2, 1), nn.ELU(),
            nn.Conv2d(w, 2 * w, 4, 2, 1), nn.ELU(),
            nn.Conv2d(2 * w, 4 * w, 4, 2, 1), nn.ELU(),
            nn.Conv2d(4 * w, config.latent, 4), nn.Flatten(),
        )  # fmt: skip

    def forward(self, observations: Observations, timestep: Tensor | None = None) -> Float[Tensor, "batch latent"]:
        """The vector of each image; clean or noisy, the timestep is not looked at.

        **Raises:** UserError for other than one image of 32 x 32 pixels of each signal.
        """
        values = observations.values
        expected = (1, self.config.channels, SIDE, SIDE)
        if values.dim() != 5 or tuple(values.shape[1:]) != expected:
            raise UserError(
                f"observations of shape {tuple(values.shape)}, expected (batch, {', '.join(map(str, expected))})"
            )
        if timestep is not None and tuple(timestep.shape) != (len(values),):
            raise UserError(f"a timestep of shape {tuple(timestep.shape)}, expected ({len(values)},)")
        return self.network(values[:, 0])

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, None]:
        """Noise."""
        values = torch.randn(batch_size, 1, self.config.channels, SIDE, SIDE, generator=generator)
        return Observations(values, WholeImage()), None


def mirrored(decoder: nn.Module) -> ImageEncoderConfig:
    """The narrowest encoder that has at least as many parameters as a decoder, of its latents and channels."""
    wanted = num_parameters(decoder)
    for width in range(1, 513):
        config = ImageEncoderConfig(latent=decoder.config.latent, channels=decoder.config.channels, width=width)
        with torch.device("meta"):
            if num_parameters(ImageEncoder(config)) >= wanted:
                return config
    raise UserError(f"a decoder of {wanted} parameters: no encoder of a width up to 512 has as many; make it smaller")


def num_parameters(module: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in module.parameters())
