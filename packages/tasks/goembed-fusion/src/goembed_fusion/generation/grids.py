"""What the denoisers of grids have in common: a context is prepared once, and denoised with, or answered alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_encoder.encoder import GOEmbed
from goembed_nerf_renderer.cameras import random_pixels
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn


class Thinned(NamedTuple):
    """What gradient steps after the first look at in training: so many pixels of each whole image, drawn anew."""

    rays: int
    random: ItemRandom

    def draw(self, seen: Observations, drawn: ItemRandom, step: int) -> Observations:
        """The first step, which takes the forward model's shortcut, looks at everything."""
        return random_pixels(seen, self.rays, drawn) if step else seen


class GridDenoiser(nn.Module, ABC):
    """`ζ = denoise(O_ctxt, O_t_trgt; t, φ)`, by gradients of the forward model of an encoder.

    Views of zeros are not there: so is a context that was dropped.

    **Arguments:**
    - `encoder`: gives grids, and has the forward model, with values in [0, 1], that they are signals of; trained and
      saved with this.
    """

    def __init__(self, encoder: GOEmbed):
        super().__init__()
        self.encoder = encoder

    @property
    def forward_model(self) -> nn.Module:
        """The encoder's, which the grids are signals of."""
        return self.encoder.forward_model

    def forward(
        self,
        context: Observations,
        noisy_target: Observations,
        timestep: Num[Tensor, " batch"],
        thinned: Thinned | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """The grids that explain whole images in [-1, 1] of a context and of a noisy target."""
        sizes = {"context": len(context.values), "timestep": len(timestep), "noisy target": len(noisy_target.values)}
        if len(set(sizes.values())) > 1:
            given = ", ".join(f"{name}: {size}" for name, size in sizes.items())
            raise UserError(f"context, noisy target and timestep are of different numbers of signals ({given})")
        return self.denoise(self.known(context, thinned), noisy_target, timestep, thinned)

    @abstractmethod
    def known(self, context: Observations, thinned: Thinned | None = None) -> Observations:
        """What of a context need be found out only once, in place of its views; values of zeros for none."""

    @abstractmethod
    def denoise(
        self,
        known: Observations,
        noisy_target: Observations,
        timestep: Num[Tensor, " batch"],
        thinned: Thinned | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """The grids, of a context that is `known`."""

    @abstractmethod
    def regress(self, known: Observations, thinned: Thinned | None = None) -> Float[Tensor, "batch ..."]:
        """What the network makes of a context alone: the deterministic reconstruction."""


def known_views(values: Float[Tensor, "batch views ..."]) -> Bool[Tensor, "batch views"]:
    """Which views are there: those that are not all zeros, which is what diffusion leaves of a dropped context."""
    return (values != 0).flatten(2).any(2)


def require_items(known: Observations, noisy_target: Observations, timestep: Tensor) -> None:
    """Raise UserError unless all are of equally many signals."""
    if len(known.values) != len(noisy_target.values) or tuple(timestep.shape) != (len(known.values),):
        raise UserError(
            f"a context of {len(known.values)} signals, a noisy target of {len(noisy_target.values)} and a timestep of "
            f"shape {tuple(timestep.shape)}: expected one of each for every signal"
        )
