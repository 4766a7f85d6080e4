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


def ramp(values: Float[Tensor, "*batch detectors"]) -> Float[Tensor, "*batch detectors"]:
    """The ramp filter `|k|` of filtered back-projection, along the detectors, padded to twice their number."""
    padded = 2 * values.shape[-1]
    frequency = torch.fft.rfftfreq(padded, device=values.device)
    return torch.fft.irfft(torch.fft.rfft(values.float(), padded) * frequency, padded)[..., : values.shape[-1]]


class ProjectionDenoiser(nn.Module):
    """A network of images as a denoiser of projections: it sees the back-projections, plain and filtered, of both.

    What it gives is the signal itself, `S = ½ + ½ n₀ + Σᵢ nᵢ · (back-projection i)`: an image, and how much of each of
    the four back-projections to take at every pixel, which carries details past the network's coarse patches.

    **Arguments:**
    - `network`: takes two channels of context and two of noisy target for each of the image's, gives five.
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
        seen = self.images(context)
        noisy = (
            seen._replace(values=torch.zeros_like(seen.values)) if noisy_target is None else self.images(noisy_target)
        )
        image, *shares = self.network(seen, noisy, timestep).float().chunk(5, dim=1)
        taken = torch.cat([seen.values[:, 0], noisy.values[:, 0]], 1).chunk(4, dim=1)
        return 0.5 + 0.5 * image + sum(share * part for share, part in zip(shares, taken, strict=True))

    def images(self, observations: Observations) -> Observations:
        """The back-projections as an observation of one view: `(B, 1, 2C, H, W)`."""
        (forward_model,) = self._forward_model
        scale, views = forward_model.config.scale**2, observations.values.shape[1]
        plain = adjoint(forward_model, observations) / (scale * views * forward_model.num_detectors)
        filtered = observations._replace(values=ramp(observations.values))
        sharp = adjoint(forward_model, filtered) * (torch.pi / (scale * views))
        return Observations(torch.cat([plain, sharp], 1)[:, None], observations.params)


class Regressor(nn.Module):
    """The deterministic baseline: the same network, loss and budget, without a noisy target to tell images apart."""

    def __init__(self, denoiser: ProjectionDenoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, context: Observations) -> Float[Tensor, "batch channels height width"]:
        """The one image that it predicts."""
        timestep = torch.zeros(len(context.values), dtype=torch.long, device=context.values.device)
        return self.denoiser(context, None, timestep)
