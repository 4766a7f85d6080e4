"""An encoder and a decoder: latents and their images, and what training minimises."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from goembed_core.diffusion import Terms, squared_error
from goembed_core.errors import UserError
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_encoder.config import GOEmbedConfig
from goembed_encoder.encoder import GOEmbed
from goembed_image_datasets.images import WholeImage
from jaxtyping import Float
from torch import Tensor, nn

from goembed_gon.baseline import ImageEncoder, mirrored
from goembed_gon.config import GONConfig, ImageEncoderConfig
from goembed_gon.decoders import Decoder, binary_cross_entropy


class AutoEncoder(nn.Module):
    """Images to signals and back.

    **Arguments:**
    - `encoder`: a gradient-origin encoder around `decoder`, or a network.
    - `decoder`: a module from signals to images, with a head and logits.
    """

    def __init__(self, encoder: GOEmbed | ImageEncoder, decoder: Decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, images: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch latent"]:
        """The latent of each image, or its mean."""
        return self.decoder.head.mean(self._signal(images))

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch c h w"]:
        """The image of each latent, in [-1, 1]."""
        return 2 * torch.sigmoid(self.decoder.logits(z)) - 1

    def losses(self, images: Float[Tensor, "batch c h w"], random: ItemRandom, kl_weight: float) -> Terms:
        """The squared error (GON eq. 3); variational, the negative evidence bound for each number of an image.

        The gradient at the origin of the divergence is the same for every image: the encoding leaves it out, as the
        heads' biases can say it.
        """
        head, signal = self.decoder.head, self._signal(images)
        z = head.mean(signal)
        if not head.variational:
            error = squared_error(self.decode(z), images).mean() / 4  # of images in [0, 1]
            return Terms({"squared_error": error})
        log_variance = head.log_variance(signal)
        sampled = z + (0.5 * log_variance).exp() * random.stream("latent").randn(z.shape[1]).to(z)
        divergence = 0.5 * (z.square() + log_variance.exp() - 1 - log_variance).sum(1) / images[0].numel()
        cross_entropy = binary_cross_entropy(self.decoder.logits(sampled), images)
        return Terms({"cross_entropy": cross_entropy.mean(), "divergence": kl_weight * divergence.mean()})

    def _signal(self, images: Tensor) -> Tensor:
        return self.encoder(Observations(images[:, None], WholeImage()))


class Model(NamedTuple):
    """What a run has trained."""

    gon: AutoEncoder
    autoencoder: AutoEncoder
    facts: dict


def encoder_config(config: GONConfig) -> GOEmbedConfig:
    """The gradient-origin encoder of a task."""
    return GOEmbedConfig(forward_model=config.decoder, **config.encoding.model_dump())


def build(config: GONConfig) -> tuple[AutoEncoder, AutoEncoder]:
    """GON, and the auto-encoder of twice its parameters whose decoder begins with the same weights."""
    decoder, same = config.decoder.build(like=Decoder), config.decoder.build()
    same.load_state_dict(decoder.state_dict())
    baseline = ImageEncoder(mirrored(decoder))
    return AutoEncoder(GOEmbed(decoder, encoder_config(config)), decoder), AutoEncoder(baseline, same)


def save(directory: Path, config: GONConfig, gon: AutoEncoder, autoencoder: AutoEncoder, facts: dict) -> None:
    """Write the run's model directory."""
    network: ImageEncoderConfig = autoencoder.encoder.config
    parts = {
        "gon": Part("encoder", "goembed", encoder_config(config), gon.encoder),
        "autoencoder_encoder": Part("encoder", "image-encoder", network, autoencoder.encoder),
        "autoencoder_decoder": Part("forward-model", config.decoder.name, config.decoder.settings, autoencoder.decoder),
    }
    save_pretrained(directory, parts, {"task": "gon", **facts})


def load(directory: Path, device: torch.device | str = "cpu") -> Model:
    """Read it again.

    **Raises:** UserError for a model of another task.
    """
    parts, facts = from_pretrained(directory, device=device)
    if facts.get("task") != "gon":
        raise UserError(f"{directory} is a model of task {facts.get('task')!r}, not of 'gon'")
    gon = AutoEncoder(parts["gon"], parts["gon"].forward_model)
    return Model(gon, AutoEncoder(parts["autoencoder_encoder"], parts["autoencoder_decoder"]), facts)
