"""Refinement: a sample as the start of an optimisation of its latent against what is visible."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from goembed_core.inversion import invert
from goembed_core.protocols import Observations
from goembed_stylegan_synth.boxes import full_box
from goembed_stylegan_synth.synthesis import StyleGANSynthesis
from jaxtyping import Float
from torch import Tensor

from goembed_gan_inversion.config import RefineConfig


def patch_error(
    images: Float[Tensor, "batch 1 channels height width"], context: Observations
) -> Float[Tensor, " batch"]:
    """Mean squared error over the visible pixels of each item."""
    visible, mask = context.values[:, :, :-1], context.values[:, :, -1:]
    squares = ((images.float() - visible) * mask).square().flatten(1).sum(1)
    return squares / (mask.flatten(1).sum(1) * images.shape[2])


def refine(
    forward_model: StyleGANSynthesis, latent: Float[Tensor, "batch ..."], context: Observations, config: RefineConfig
) -> Float[Tensor, "batch ..."]:
    """Move every latent, from where it is, to agree with the visible patch.

    The variable is the offset in standard deviations of `w`, and a weak Gaussian prior keeps it near the sample: the
    sample says which mode, the optimisation makes it fit.
    """
    if config.steps == 0:
        return latent
    whole = full_box(len(latent), 1, latent.device)
    std = forward_model.w_std

    def losses(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
        offset = variables["offset"]
        images = forward_model(latent + std * offset, whole)
        return {"patch": patch_error(images, context), "prior": config.prior * offset.square().flatten(1).mean(1)}

    found = invert({"offset": torch.zeros_like(latent)}, losses, [config])
    return latent + std * found.variables["offset"]
