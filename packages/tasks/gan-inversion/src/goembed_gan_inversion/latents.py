"""Latent spaces: what a solver's network gives, the `w` behind it, and what keeps it near the generator's own."""

from __future__ import annotations

from typing import Protocol

import torch
from goembed_core.precision import without_autocast
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_stylegan_synth.boxes import PatchBox
from goembed_stylegan_synth.synthesis import StyleGANSynthesis
from jaxtyping import Float
from torch import Tensor, nn

from goembed_gan_inversion.config import LatentConfig


class StyleGenerator(Protocol):
    """What a latent space takes of a forward model of patches, as `stylegan` has it."""

    img_channels: int
    resolution: int
    z_dim: int
    w_dim: int
    num_ws: int
    w_avg: Tensor
    w_std: Tensor

    def mapping(self, z: Tensor, truncation_psi: float | None = None) -> Tensor:
        """The `w` of each `z`."""
        ...

    def sample_latents(self, random: ItemRandom, truncation_psi: float | None = None) -> Tensor:
        """A random `w` for each item."""
        ...


class LatentSpace(nn.Module):
    """The generator as a forward model of a network's outputs: `O = mask(φ) · G(w(S))`, with `S` of unit scale.

    - `w`: `w = w_avg + w_std · S`; `w+`: the same, one for each layer.
    - `z`: `w = mapping(S)`.  A network that is not sure yet finds, far from all `w` of the generator, blurs that score
      better than any sharp image, and hardly leaves them; behind the mapping there are none.
    - `z+`: `w = mapping(z) + w_std · δ` with `S = (z, δ)`: the mapping, and a small way around it.

    **Arguments:**
    - `forward_model`: the frozen generator.
    - `config`: the space, and the weights of its penalties.
    """

    def __init__(self, forward_model: StyleGANSynthesis, config: LatentConfig):
        super().__init__()
        self.forward_model = forward_model
        self.config = config

    @property
    def size(self) -> int:
        """How many numbers the network gives."""
        z_dim, w_dim = self.forward_model.z_dim, self.forward_model.w_dim
        return {"w": w_dim, "w+": self.forward_model.num_ws * w_dim, "z": z_dim, "z+": z_dim + w_dim}[self.config.space]

    def latent(self, signal: Float[Tensor, "batch {self.size}"]) -> Float[Tensor, "batch *num_ws w_dim"]:
        """The `w` that the signal stands for, in float32."""
        forward_model, signal = self.forward_model, signal.float()
        if self.config.space in ("z", "z+"):
            z, offset = self._split(signal)
            with without_autocast(z.device):  # w needs more digits than bfloat16 has
                w = forward_model.mapping(z, truncation_psi=1.0)
            return w if offset is None else w + forward_model.w_std * offset
        if self.config.space == "w+":
            signal = signal.unflatten(1, (forward_model.num_ws, -1))
        return forward_model.w_avg + forward_model.w_std * signal

    def forward(
        self, signal: Float[Tensor, "batch {self.size}"], params: PatchBox
    ) -> Float[Tensor, "batch views channels resolution resolution"]:
        """The observation of each signal."""
        return self.forward_model(self.latent(signal), params)

    def penalties(self, signal: Float[Tensor, "batch {self.size}"]) -> dict[str, Tensor]:
        """Terms that training adds to the loss.

        - `norm`: `(mean z² − 1)²`.  The mapping sees the direction of `z` alone, so nothing else holds its length; it
          grows, and a step of the optimiser turns it ever less.
        - `offset`: `mean δ²`.
        """
        if self.config.space not in ("z", "z+"):
            return {}
        z, offset = self._split(signal.float())
        penalties = {"norm": self.config.norm_penalty * (z.square().mean(1) - 1).square().mean()}
        if offset is not None:
            penalties["offset"] = self.config.offset_penalty * offset.square().mean()
        return penalties

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, PatchBox]:
        """Random signals, and two random boxes each."""
        _, boxes = self.forward_model.example(batch_size, generator)
        signal = torch.randn(batch_size, self.size, generator=generator, device=generator.device)
        return signal.to(self.forward_model.w_avg.device), boxes

    def _split(self, signal: Tensor) -> tuple[Tensor, Tensor | None]:
        z_dim = self.forward_model.z_dim
        return signal[:, :z_dim], signal[:, z_dim:] if self.config.space == "z+" else None


class Regressor(nn.Module):
    """The deterministic baseline: the same network, loss and budget, without a noisy target to tell the modes apart."""

    def __init__(self, network: nn.Module, space: LatentSpace):
        super().__init__()
        self.network = network
        self.space = space

    def forward(self, context: Observations, target_params: PatchBox) -> tuple[Tensor, Tensor]:
        """The one signal that it predicts, and its image `(B, 1, C, R, R)`."""
        values = torch.zeros_like(context.values[:, :, :-1])
        timestep = torch.zeros(len(values), dtype=torch.long, device=values.device)
        signal = self.network(context, Observations(values, target_params), timestep)
        return signal, self.space(signal, target_params)
