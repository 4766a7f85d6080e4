"""Sparse-view tomography: scans of images, their roles, and the network that sees projections as images."""

from __future__ import annotations

import torch
from goembed_core.diffusion import Split
from goembed_core.protocols import Observations
from goembed_core.randomness import ItemRandom
from goembed_core.trees import tree_map
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from goembed_deepinv.config import ViewsConfig
from goembed_deepinv.forward import Angle, Projections


def scan(
    forward_model: Projections,
    images: Float[Tensor, "batch channels height width"],
    seed: int,
    indices: Int[Tensor, " batch"],
    views: int,
) -> Observations:
    """The projections of each image, one in each of `views` equal parts of half a turn: always the same of an image.

    Images in [-1, 1] become attenuations in [0, 1].  This is the machine; nothing that learns is given its input.
    """
    jitter = ItemRandom(seed, indices.tolist(), "scan", images.device).rand(views)
    angles = Angle((torch.arange(views, device=images.device) + jitter) * (180 / views))
    with torch.no_grad():
        return Observations(forward_model((images + 1) / 2, angles), angles)


def roles(scans: Observations, views: ViewsConfig, random: ItemRandom) -> Split:
    """Every so many-th projection is context, from a random first; of the others some are target, the rest novel."""
    every = views.scanned // views.context
    first = random.randint(0, every)
    place = (torch.arange(views.scanned, device=first.device) - first[:, None]) % every
    order = torch.where(place == 0, -1.0, random.rand(views.scanned)).argsort(dim=1, stable=True)
    items = torch.arange(len(order), device=order.device)[:, None]
    shuffled = tree_map(lambda leaf: leaf[items, order], scans)
    ends = (views.context, views.context + views.target)
    context, target, novel = (
        tree_map(lambda leaf, part=part: leaf[:, part], shuffled)
        for part in (slice(ends[0]), slice(*ends), slice(ends[1], None))
    )
    return Split(context, target, novel if views.novel else None)


def adjoint(forward_model: Projections, observations: Observations) -> Float[Tensor, "batch channels height width"]:
    """`Aᵀ O`, the negative gradient of `½ ||O − forward(ζ0, φ)||²` at the origin `ζ0 = 0` (GON eq. 1)."""
    shape = (len(observations.values), *forward_model.config.signal_shape)
    with torch.enable_grad():
        origin = torch.zeros(shape, device=observations.values.device, requires_grad=True)
        shown = forward_model(origin, observations.params)
    (gradient,) = torch.autograd.grad(shown, origin, observations.values.float())
    return gradient


class ProjectionDenoiser(nn.Module):
    """A network of images as a denoiser of projections: `S = ½ + ½ network(Aᵀ O_ctxt, Aᵀ O_t_trgt; t)`.

    **Arguments:**
    - `network`: takes the back-projections of context and noisy target as channels, gives the image.
    - `forward_model`: whose adjoint back-projects; it is not part of this module's state.
    """

    def __init__(self, network: nn.Module, forward_model: Projections):
        super().__init__()
        self.network = network
        self._forward_model = (forward_model,)  # in a tuple: no submodule, so neither trained nor saved

    def forward(
        self, context: Observations, noisy_target: Observations | None, timestep: Num[Tensor, " batch"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The image; without a noisy target the network sees zeros in its place."""
        seen = self.image(context)
        noisy = (
            seen._replace(values=torch.zeros_like(seen.values)) if noisy_target is None else self.image(noisy_target)
        )
        return 0.5 + 0.5 * self.network(seen, noisy, timestep).float()

    def image(self, observations: Observations) -> Observations:
        """The back-projection as an observation of one view: `(B, 1, C, H, W)`.

        Of projections under the half-ramp filter it is the filtered back-projection, of about the image's own scale.
        """
        (forward_model,) = self._forward_model
        factor = torch.pi / (forward_model.config.scale**2 * observations.values.shape[1])
        return Observations(factor * adjoint(forward_model, observations)[:, None], observations.params)


class Regressor(nn.Module):
    """The deterministic baseline: the same network, loss and budget, without a noisy target to tell images apart."""

    def __init__(self, denoiser: ProjectionDenoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, context: Observations) -> Float[Tensor, "batch channels height width"]:
        """The one image that it predicts."""
        timestep = torch.zeros(len(context.values), dtype=torch.long, device=context.values.device)
        return self.denoiser(context, None, timestep)
