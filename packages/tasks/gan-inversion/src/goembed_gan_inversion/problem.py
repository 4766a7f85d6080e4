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
from jaxtyping import Float, Num
from torch import Tensor, nn

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


class LatentDenoiser(nn.Module):
    """A network with outputs of unit scale, as a denoiser of latents `w`.

    - `space="w"` and `"w+"`: `w = w_avg + w_std · network(…)`, one for all layers or one for each.
    - `space="z"`: `w = mapping(network(…))`, which keeps `w` where the generator was trained.  It learns slowly, as the
      mapping sees the direction of its input alone; and zero has none (set `denoiser.head_std`).

    **Arguments:**
    - `network`: gives `(B, z_dim)`, `(B, w_dim)`, or `(B, num_ws · w_dim)`.
    - `forward_model`: whose mapping network or statistics of `w` are used; it is not part of this module's state.
    """

    def __init__(self, network: nn.Module, forward_model: StyleGANSynthesis, space: str):
        super().__init__()
        self.network = network
        self.space = space
        self.num_ws = forward_model.num_ws
        self._forward_model = (forward_model,)  # in a tuple: no submodule, so neither trained nor saved
        self.register_buffer("mean", forward_model.w_avg.clone(), persistent=False)
        self.register_buffer("std", forward_model.w_std.clone(), persistent=False)

    def forward(self, context: Observations, noisy_target: Observations, timestep: Num[Tensor, " batch"]) -> Tensor:
        """The latent, `(B, w_dim)` or `(B, num_ws, w_dim)`."""
        output = self.network(context, noisy_target, timestep).float()
        if self.space == "z":
            (forward_model,) = self._forward_model
            return forward_model.mapping(output, truncation_psi=1.0)
        if self.space == "w+":
            output = output.unflatten(1, (self.num_ws, -1))
        return self.mean + self.std * output


class Regressor(nn.Module):
    """The deterministic baseline: the same network, loss and budget, without a noisy target to tell the modes apart."""

    def __init__(self, denoiser: LatentDenoiser, forward_model: StyleGANSynthesis):
        super().__init__()
        self.denoiser = denoiser
        self.forward_model = forward_model

    def forward(self, context: Observations, target_params: PatchBox) -> tuple[Tensor, Tensor]:
        """The one latent that it predicts, and its image `(B, 1, C, R, R)`."""
        values = torch.zeros_like(context.values[:, :, :-1])
        timestep = torch.zeros(len(values), dtype=torch.long, device=values.device)
        latent = self.denoiser(context, Observations(values, target_params), timestep)
        return latent, self.forward_model(latent, target_params)
