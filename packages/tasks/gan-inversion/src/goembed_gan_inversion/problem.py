"""The inverse problem: a generated image of which only a patch is seen, and the latents that may lie behind it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from goembed_core.diffusion import Split
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import select_items
from goembed_stylegan_synth.boxes import PatchBox, box_mask, full_box, random_boxes
from goembed_stylegan_synth.synthesis import StyleGANSynthesis
from jaxtyping import Float
from torch import Tensor

from goembed_gan_inversion.config import PatchConfig


class Scene(NamedTuple):
    """Generated images, what of them is visible, and what made them (which no solver sees)."""

    context: Observations  # masked image ‖ mask: (B, 1, C + 1, R, R), φ = the patch
    target: Observations  # the full image: (B, 1, C, R, R), φ = the whole
    latent: Float[Tensor, "batch ..."]

    @property
    def split(self) -> Split:
        """The scene's roles in a training step; eq. 8 alone, as the target is already the whole image."""
        return Split(self.context, self.target)

    def items(self, index: slice | Tensor) -> Scene:
        """Some of the scenes."""
        return select_items(self, index)


def make_context(images: Float[Tensor, "batch channels height width"], box: PatchBox) -> Observations:
    """All but the patch masked (mid-grey), and the mask as a further channel: `(B, 1, C + 1, R, R)`."""
    mask = box_mask(box, images.shape[-1]).to(images.dtype)
    return Observations(torch.cat([images[:, None] * mask, mask], dim=2), box)


def draw_scenes(forward_model: StyleGANSynthesis, patch: PatchConfig, psi: float, random: ItemRandom) -> Scene:
    """Fresh samples of the generator, each seen through a patch of random size and place (DFM supplement 2.3)."""
    latent = forward_model.sample_latents(random, truncation_psi=psi)
    whole = full_box(len(random), 1, latent.device)
    images = forward_model(latent, whole)
    box = random_boxes(random, images.shape[-1], patch.min_side, patch.max_side)
    return Scene(make_context(images[:, 0], box), Observations(images, whole), latent)
