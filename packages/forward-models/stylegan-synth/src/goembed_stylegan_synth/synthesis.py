"""StyleGAN2 as a forward model: the signal is a latent `w`, the observation its image seen through a box."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from goembed_core.errors import UserError
from goembed_core.randomness import ItemRandom
from goembed_core.shapes import require_views
from jaxtyping import Float
from torch import Tensor, nn

from goembed_stylegan_synth.boxes import PatchBox, box_mask, full_box, random_boxes
from goembed_stylegan_synth.config import SynthesisConfig
from goembed_stylegan_synth.weights import load_generator

__all__ = ["PatchBox", "StyleGANSynthesis", "box_mask", "full_box", "random_boxes"]


class StyleGANSynthesis(nn.Module):
    """`O = mask(φ) · G(w)` (DFM, GAN inversion): a frozen generator's image, mid-grey outside of the box.

    The image is about in [-1, 1] and is not clamped.
    """

    def __init__(self, config: SynthesisConfig):
        super().__init__()
        self.config = config
        pretrained = load_generator(config.weights)
        self.generator = pretrained.generator.requires_grad_(False).eval()
        # Once here, instead of a copy of every weight in each call.
        self.generator.to(memory_format=torch.channels_last)
        self.register_buffer("w_std", pretrained.w_std)
        self.native_resolution = pretrained.config.resolution
        self.resolution = config.resolution or self.native_resolution
        if self.resolution > self.native_resolution:
            raise UserError(
                f"resolution={self.resolution} is above the {self.native_resolution} of weights={config.weights!r}; "
                f"choose at most {self.native_resolution}"
            )
        self.img_channels = pretrained.config.img_channels
        self.z_dim, self.w_dim = pretrained.config.z_dim, pretrained.config.w_dim
        self.num_ws = self.generator.num_ws

    @property
    def w_avg(self) -> Float[Tensor, " w_dim"]:
        """The mean `w`; `w_std` is the standard deviation of each of its numbers."""
        return self.generator.mapping.w_avg

    def forward(
        self, signal: Float[Tensor, "batch *num_ws w_dim"], params: PatchBox
    ) -> Float[Tensor, "batch views channels resolution resolution"]:
        """Observe each latent through each of its boxes; differentiable in the latent, not in the box.

        **Arguments:**
        - `signal`: `(B, w_dim)`, one `w` for all layers [W], or `(B, num_ws, w_dim)`, one for each [W+].
        """
        require_views(params, len(signal), left=(), top=(), width=(), height=())
        image = self.synthesize(signal)
        return image[:, None] * box_mask(params, self.resolution).to(image.dtype)

    def synthesize(
        self, w: Float[Tensor, "batch *num_ws w_dim"]
    ) -> Float[Tensor, "batch channels resolution resolution"]:
        """The whole image of each latent, averaged down to `resolution`."""
        image = self.generator.synthesis(self._all_layers(w), self.config.noise)
        factor = self.native_resolution // self.resolution
        return F.avg_pool2d(image, factor) if factor > 1 else image

    def mapping(
        self, z: Float[Tensor, "batch z_dim"], truncation_psi: float | None = None
    ) -> Float[Tensor, "batch w_dim"]:
        """`w = w_avg + ψ (f(z) − w_avg)`; ψ is the config's unless given."""
        psi = self.config.truncation_psi if truncation_psi is None else truncation_psi
        w = self.generator.mapping(z)
        return w if psi == 1 else self.w_avg.lerp(w, psi)

    def sample_latents(self, random: ItemRandom, truncation_psi: float | None = None) -> Float[Tensor, "batch w_dim"]:
        """`w` of a random `z` for each item."""
        return self.mapping(random.randn(self.z_dim).to(self.w_avg.device), truncation_psi)

    def random_boxes(
        self, random: ItemRandom, min_fraction: float, max_fraction: float, num_views: int = 1
    ) -> PatchBox:
        """Random squares on the observation's own pixels."""
        return random_boxes(random, self.resolution, min_fraction, max_fraction, num_views)

    def origin(self, batch_size: int, device: torch.device) -> Float[Tensor, "batch w_dim"]:
        """The mean latent, which gradient-origin embeddings and inversions start from."""
        return self.w_avg.to(device).expand(batch_size, -1).clone()

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, PatchBox]:
        """Random latents, and two random boxes each."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        random = ItemRandom(seed, range(batch_size), "example", self.w_avg.device)
        return self.sample_latents(random), self.random_boxes(random, 0.25, 0.75, num_views=2)

    def _all_layers(self, w: Tensor) -> Float[Tensor, "batch num_ws w_dim"]:
        if w.shape[1:] == (self.w_dim,):
            return self.generator.broadcast(w)
        if w.shape[1:] == (self.num_ws, self.w_dim):
            return w
        raise UserError(
            f"latents of shape {tuple(w.shape)}: expected (batch, {self.w_dim}) [W] "
            f"or (batch, {self.num_ws}, {self.w_dim}) [W+]"
        )
