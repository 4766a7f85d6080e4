"""The denoiser whose signals are planes: `ζ = denoise(O_ctxt, O_t_trgt; t, φ)` by gradients at the origin (GOEmbed)."""

from __future__ import annotations

import torch
from goembed_core.config import ConfigError
from goembed_core.errors import UserError
from goembed_core.protocols import Observations
from goembed_core.traits import DenoiserTraits
from goembed_core.trees import named_leaves
from goembed_encoder.encoder import GOEmbed
from jaxtyping import Float, Num
from torch import Tensor

from goembed_fusion.generation.config import PlaneDenoiserConfig
from goembed_fusion.generation.grids import GridDenoiser, Thinned, known_views, require_items
from goembed_fusion.generation.network import PlaneNetwork


class PlaneDenoiser(GridDenoiser):
    """`ζ = ζ_0 + e + net(e_ctxt, e_trgt, t)` with `e = e_ctxt + e_trgt`, the encodings of the context and of the noise.

    Both are encoded by one encoder, which is told the timestep of the noisy target.  Views of zeros are not there: so
    is a context that was dropped, and a target of zeros makes it a regression from the context.

    **Arguments:**
    - `encoder`: gives planes `(B, N, C, R, R)`, and has the forward model, with values in [0, 1], that they are signals
      of; trained and saved with this.

    **Raises:** ConfigError for an encoder of anything but planes, or planes that patches do not tile.
    """

    conformance = DenoiserTraits(uses_params=True, context_is_a_set=True)

    def __init__(self, encoder: GOEmbed, config: PlaneDenoiserConfig):
        super().__init__(encoder)
        if encoder.config.timesteps is None:
            raise ConfigError("denoiser.encoder.timesteps is null: give T of the schedule that noises the target")
        leaves = list(named_leaves(encoder.forward_model.origin(1, torch.device("cpu")), "signal").values())
        shapes = [tuple(leaf.shape[1:]) for leaf in leaves]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != shapes[0][-2]:
            raise ConfigError(
                f"denoiser.encoder.forward_model has signals of shape {', '.join(map(str, shapes))}: expected square "
                f"planes (planes, channels, side, side), as those of triplane"
            )
        planes, channels, side, _ = shapes[0]
        if side % config.patch_size:
            raise ConfigError(f"denoiser.patch_size={config.patch_size} does not divide the planes' side, {side}")
        self.config = config
        self.network = PlaneNetwork(config, planes, channels, side)

    def known(self, context: Observations, thinned: Thinned | None = None) -> Observations:
        """The encoding of the context."""
        return Observations(self.encode(context, None, thinned), None)

    def encode(
        self,
        observations: Observations,
        timestep: Num[Tensor, " batch"] | None = None,
        thinned: Thinned | None = None,
    ) -> Float[Tensor, "batch planes c r r"]:
        """How far from the origin images in [-1, 1] lead; views of zeros are not there."""
        if observations.values.dim() < 3:
            raise UserError(f"observations of shape {tuple(observations.values.shape)}: expected (batch, views, ...)")
        there = known_views(observations.values).to(observations.values.dtype)
        images = observations._replace(values=0.5 * (observations.values + 1))
        if thinned is None:
            return self.encoder(images, timestep, mask=there)

        name = "context" if timestep is None else "target"
        return self.encoder(images, timestep, mask=there, draw=thinned.draw, random=thinned.random.stream(name))

    def denoise(
        self,
        known: Observations,
        noisy_target: Observations,
        timestep: Num[Tensor, " batch"],
        thinned: Thinned | None = None,
    ) -> Float[Tensor, "batch planes c r r"]:
        """The planes that explain an encoded context, zeros for none, and a noisy target."""
        require_items(known, noisy_target, timestep)
        return self._refine(known.values, self.encode(noisy_target, timestep, thinned), timestep)

    def regress(self, known: Observations, thinned: Thinned | None = None) -> Float[Tensor, "batch planes c r r"]:
        """What the network makes of an encoded context alone."""
        planes = known.values
        return self._refine(planes, torch.zeros_like(planes), torch.zeros(len(planes), device=planes.device))

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Observations, Observations, Num[Tensor, " batch"]]:
        """The encoder's example as a context, and noise under the `φ` of another as the target."""
        context, timestep = self.encoder.example(batch_size, generator)
        target, _ = self.encoder.example(batch_size, generator)
        noise = torch.randn(target.values.shape, generator=generator)
        return context._replace(values=2 * context.values - 1), target._replace(values=noise), timestep

    def _refine(self, known: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        added = self.network(torch.cat([known, noisy], 2), timestep)
        return self.forward_model.origin(len(known), known.device) + known + noisy + added


def from_config(config: PlaneDenoiserConfig) -> PlaneDenoiser:
    """A denoiser around the encoder that its settings name."""
    return PlaneDenoiser(config.encoder.build(), config)
