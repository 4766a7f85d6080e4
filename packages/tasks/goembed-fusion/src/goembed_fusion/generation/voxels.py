"""The denoiser whose signals are voxels: context and noisy target are encoded together, each worth what it tells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from goembed_core.config import ConfigError
from goembed_core.precision import at_least_float32
from goembed_core.protocols import Observations
from goembed_core.schedule import NoiseSchedule
from goembed_core.traits import DenoiserTraits
from goembed_core.trees import concatenate, select_items
from goembed_dit.embeddings import TimeEmbedding
from goembed_encoder.encoder import GOEmbed
from goembed_triplane.grids import Voxels
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fusion.generation.config import VoxelDenoiserConfig
from goembed_fusion.generation.grids import GridDenoiser, Thinned, known_views, require_items
from goembed_fusion.volume import Modulation, VoxelNetwork

FREQUENCIES = 256
BEGIN = 8  # objects that are encoded together for the prior


class VoxelDenoiser(GridDenoiser):
    """`ζ = ζ_0 + e + net(asinh e, t)`, `e` the gradient steps down `||O_ctxt − O||² + ᾱ_t ||O_t_trgt / √ᾱ_t − O||²`.

    A noisy view is encoded as `O_t / √ᾱ_t`, which is right on average, and weighs `ᾱ_t` of a clean one, which is what
    noise of as much power as images leaves of it.  So pure noise adds nothing, and what is found is what the context
    alone leads to; a target without noise is as good as given.  What is worth less than one view together is filled up
    with a learned prior, as no network makes an object of nothing in few steps.  The network, which adds nothing at
    first, sees `asinh e`: some cells of an encoding are fifty times as long as others.

    **Arguments:**
    - `encoder`: gives voxels, of views that are clean.  One of which no parameter wants a gradient is not recorded.

    **Raises:** ConfigError for an encoder of anything else, or voxels that patches do not tile.
    """

    conformance = DenoiserTraits(
        uses_params=True,
        context_is_a_set=True,
        expected_failures={"gradient_to_weights": "the prior learns from signals of which less than a view is given"},
    )

    def __init__(self, encoder: GOEmbed, config: VoxelDenoiserConfig):
        super().__init__(encoder)
        if encoder.config.timesteps is not None:
            raise ConfigError(
                f"denoiser.encoder.timesteps={encoder.config.timesteps}: noisy voxels are weighed by the schedule, and "
                f"the encoder sees clean ones; set timesteps=null"
            )
        representation = encoder.forward_model.decode.representation
        if not isinstance(representation, Voxels):
            raise ConfigError(
                f"denoiser.encoder.forward_model has a {type(representation).__name__}: expected voxels; set its name "
                f"to voxels, or denoiser.name=plane-denoiser"
            )
        channels, side = representation.shape[:2]
        if side % config.patch_size:
            raise ConfigError(f"denoiser.patch_size={config.patch_size} does not divide the voxels' side, {side}")
        self.config = config
        self.schedule = NoiseSchedule(config.schedule)
        self.prior = nn.Parameter(torch.zeros(representation.shape))
        self.network = VoxelNetwork(config, channels, side)
        self.time = TimeModulation(config.hidden_size, self.network.widths)

    @torch.no_grad()
    def begin(self, views: Observations) -> None:
        """Let the prior be what whole images in [-1, 1] of many objects are encoded to on average."""
        count = len(views.values)
        every = [select_items(views, slice(n, n + BEGIN)) for n in range(0, count, BEGIN)]
        found = [self._encode(part, part.values.new_ones(part.values.shape[:2]), None) for part in every]
        self.prior.copy_(torch.cat(found).mean(0))

    def known(self, context: Observations, thinned: Thinned | None = None) -> Observations:
        """The context itself, as it is encoded with the target."""
        return context

    def denoise(
        self,
        known: Observations,
        noisy_target: Observations,
        timestep: Num[Tensor, " batch"],
        thinned: Thinned | None = None,
    ) -> Float[Tensor, "batch c r r r"]:
        """The voxels that explain a context and a noisy target."""
        require_items(known, noisy_target, timestep)
        signal = self.schedule.observed_as(timestep.long())[0].to(noisy_target.values)
        clean = noisy_target._replace(
            values=noisy_target.values / signal.view(-1, *(1,) * (noisy_target.values.dim() - 1))
        )
        worth = known_views(noisy_target.values) * signal.square()[:, None]
        weights = torch.cat([known_views(known.values).to(worth), worth], 1)
        together = concatenate([known._replace(values=known.values.to(clean.values)), clean], 1)
        return self._refine(self._filled(together, weights, thinned), timestep)

    def regress(self, known: Observations, thinned: Thinned | None = None) -> Float[Tensor, "batch c r r r"]:
        """The same of a target that is noise alone, which is worth nothing."""
        encoded = self._filled(known, known_views(known.values).to(known.values.dtype), thinned)
        last = torch.full((len(encoded),), self.config.schedule.num_timesteps - 1, device=encoded.device)
        return self._refine(encoded, last)

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Observations, Observations, Num[Tensor, " batch"]]:
        """The encoder's example as a context, and that of other signals with as much noise as the target."""
        context, _ = self.encoder.example(batch_size, generator)
        target, _ = self.encoder.example(batch_size, generator)
        total = self.config.schedule.num_timesteps
        timestep = (total // 2 + torch.arange(batch_size) * (total // (2 * max(batch_size, 1)))) % total
        noise = torch.randn(target.values.shape, generator=generator)
        noisy = self.schedule.add_noise(2 * target.values - 1, noise, timestep)
        return context._replace(values=2 * context.values - 1), target._replace(values=noisy), timestep

    def _filled(
        self, observations: Observations, weights: Float[Tensor, "batch views"], thinned: Thinned | None
    ) -> Float[Tensor, "batch c r r r"]:
        """What the views are encoded to, with the prior for what they lack of one."""
        lacking = (1 - weights.sum(1)).clamp(min=0).view(-1, 1, 1, 1, 1)
        return self._encode(observations, weights, thinned) + lacking * self.prior

    def _encode(
        self, observations: Observations, weights: Float[Tensor, "batch views"], thinned: Thinned | None
    ) -> Float[Tensor, "batch c r r r"]:
        """Of views that are worth more than `most_views` together, each is worth less."""
        weights = weights * (self.config.most_views / weights.sum(1, keepdim=True)).clamp(max=1)
        images = observations._replace(values=0.5 * (observations.values + 1))
        settings = {} if thinned is None else {"draw": thinned.draw, "random": thinned.random}
        learns = any(p.requires_grad for p in self.encoder.parameters()) or images.values.requires_grad
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            return self.encoder(images, mask=weights, **settings)

    def _refine(self, encoded: Tensor, timestep: Tensor) -> Tensor:
        added = self.network(encoded.asinh().to(self.network.positions.dtype), self.time(timestep))
        return self.forward_model.origin(len(encoded), encoded.device) + encoded + at_least_float32(added)


class TimeModulation(nn.Module):
    """What the time does to a network of voxels; nothing at first but to tell its transformer."""

    def __init__(self, hidden_size: int, widths: Sequence[int]):
        super().__init__()
        self.embedding = TimeEmbedding(FREQUENCIES, hidden_size)
        self.levels = nn.ModuleList(nn.Linear(hidden_size, 2 * width) for width in widths)
        for level in self.levels:
            nn.init.zeros_(level.weight)
            nn.init.zeros_(level.bias)

    def forward(self, timestep: Num[Tensor, " batch"]) -> Modulation:
        """One condition, and one scale and shift for each level, of every item."""
        condition = self.embedding(timestep)
        return Modulation(condition, [level(F.silu(condition)) for level in self.levels])


def from_config(config: VoxelDenoiserConfig) -> VoxelDenoiser:
    """A denoiser around the encoder that its settings name."""
    return VoxelDenoiser(config.encoder.build(), config)
