"""The losses of StyleGAN2's four phases: generator, path length, discriminator and R1."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from goembed_core.precision import without_autocast
from goembed_core.randomness import ItemRandom
from jaxtyping import Float
from torch import Tensor, nn

from goembed_stylegan_synth.networks import Generator


def draw_ws(generator: Generator, random: ItemRandom, style_mixing: float = 0.9) -> Float[Tensor, "batch num_ws w_dim"]:
    """`w` of random `z`; with probability `style_mixing` another `z` takes over from a random layer on."""
    z = random.randn(2, generator.mapping.z_dim)
    w = generator.mapping(z.flatten(0, 1)).unflatten(0, (-1, 2))
    first, second = (w[:, index, None].expand(-1, generator.num_ws, -1) for index in range(2))
    cutoff = random.randint(1, generator.num_ws)
    cutoff = torch.where(random.rand() < style_mixing, cutoff, generator.num_ws)
    layer = torch.arange(generator.num_ws, device=w.device)
    return torch.where((layer < cutoff[:, None])[:, :, None], first, second)


def generator_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """The non-saturating loss `E[softplus(−D(G(z)))]`."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(fake_logits: Float[Tensor, " batch"], real_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """The logistic loss `E[softplus(D(G(z)))] + E[softplus(−D(x))]`."""
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def r1_penalty(
    real_logits: Float[Tensor, " batch"], images: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, ""]:
    """`E[||∇_x D(x)||²]` (Mescheder et al. 2018) of logits computed from `images`; to be weighted by `γ / 2`."""
    with without_autocast(images.device):  # which would also round the backward pass
        (gradient,) = torch.autograd.grad(real_logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


class PathLengthPenalty(nn.Module):
    """`E[(||J_wᵀ y||₂ − a)²]` (StyleGAN2 eq. 4), `y` a random image and `a` the running mean of the lengths."""

    def __init__(self, decay: float = 0.01):
        super().__init__()
        self.decay = decay
        self.register_buffer("mean_length", torch.zeros(()))

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        ws: Float[Tensor, "batch num_ws w_dim"],
        random: ItemRandom,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " batch"]]:
        """The penalty and the lengths, of images computed from `ws`; moves the running mean."""
        direction = random.randn(*images.shape[1:]) / math.sqrt(images.shape[2] * images.shape[3])
        with without_autocast(images.device):
            (gradient,) = torch.autograd.grad((images * direction).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
        self.mean_length.lerp_(lengths.detach().mean(), self.decay)
        return (lengths - self.mean_length).square().mean(), lengths
