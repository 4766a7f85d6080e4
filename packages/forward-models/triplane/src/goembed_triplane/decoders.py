"""From features to density and colour: what turns a signal of any representation into a radiance field."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from goembed_core.precision import at_least_float32, without_autocast
from goembed_nerf_renderer.fields import FieldSamples
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_triplane.config import DecoderConfig
from goembed_triplane.grids import Representation

ACTIVATIONS = {"silu": nn.SiLU, "elu": nn.ELU, "softplus": nn.Softplus}


class Decoder(nn.Module):
    """`σ = scale · softplus(g_0 + bias)`, `c = sigmoid(Σ_k g_k Y_k(d))`, with `g` a network of the feature.

    Smooth throughout, so that the gradient at an origin is neither zero nor without a derivative.  Without
    `position_frequencies` it knows the feature alone.
    """

    def __init__(self, config: DecoderConfig, channels: int):
        super().__init__()
        self.config = config
        self.channels = channels
        self.outputs = 1 + 3 * (config.harmonics + 1) ** 2
        position = 6 * config.position_frequencies
        widths = [channels + position, *[config.hidden_size] * config.depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), ACTIVATIONS[config.activation]()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], self.outputs))

    @property
    def position_free(self) -> bool:
        """Whether equal features have equal outputs everywhere."""
        return self.config.position_frequencies == 0

    def forward(
        self, features: Float[Tensor, "*points c"], places: Float[Tensor, "*points 3"] | None = None
    ) -> Float[Tensor, "*points outputs"]:
        """`g`: what density and colours are made of, `density, red, green, blue`, with a colour's harmonics together.

        **Arguments:**
        - `places`: in [−1, 1] of the box; only asked for with `position_frequencies`.
        """
        if not self.position_free:
            features = torch.cat([features, _sines(places, self.config.position_frequencies).to(features)], -1)
        return self.network(features.to(self.network[-1].weight))

    def shade(
        self,
        outputs: Float[Tensor, "batch n outputs"],
        directions: Float[Tensor, "batch n 3"] | None,
        inside: Bool[Tensor, "batch n"],
    ) -> FieldSamples:
        """Density and colour of `g`, in float32 or better; nothing where a point is not `inside`.

        Without directions there is no colour that depends on them.
        """
        with without_autocast(outputs.device):
            outputs = at_least_float32(outputs)
            density = self.config.density_scale * F.softplus(outputs[..., 0] + self.config.density_bias)
            density = torch.where(inside, density, 0.0)
            if self.config.harmonics == 0:
                return FieldSamples(density, torch.sigmoid(outputs[..., 1:]))
            if directions is None:
                return FieldSamples(density, None)
            basis = _harmonics(directions.to(outputs))
            return FieldSamples(density, torch.sigmoid((outputs[..., 1:].unflatten(-1, (3, 4)) * basis).sum(-1)))

    def jacobian(self, feature: Float[Tensor, " c"]) -> Float[Tensor, "outputs c"]:
        """`∂g / ∂f` at one feature, differentiable in the weights.

        **Raises:** ValueError of a decoder that knows the position, which has one at each place.
        """
        if not self.position_free:
            raise ValueError(
                f"a decoder with position_frequencies={self.config.position_frequencies} has a Jacobian for each "
                f"place; only one with 0 has a single one"
            )
        with torch.enable_grad():
            copies = feature.repeat(self.outputs, 1)
            copies = copies if copies.requires_grad else copies.requires_grad_()
            one_of_each = self(copies).diagonal().sum()
            return torch.autograd.grad(one_of_each, copies, create_graph=True)[0]


class DecodedField:
    """The radiance field of some signals: `field(points, directions)` of points of the world."""

    def __init__(self, decoder: FieldDecoder, signal: Any):
        self.decoder, self.signal = decoder, signal

    def __call__(
        self, points: Float[Tensor, "batch n 3"], directions: Float[Tensor, "batch n 3"] | None
    ) -> FieldSamples:
        """Density and colour; no density outside of the box.  Differentiable in signal, decoder and points."""
        places, inside = self.decoder.places(points)
        features = self.decoder.representation.features(self.signal, places)
        return self.decoder.decoder.shade(self.decoder.decoder(features, places), directions, inside)


class FieldDecoder(nn.Module):
    """`decoder(ζ)`: the radiance field of signals, one representation and its decoder in a box of the world."""

    def __init__(
        self,
        representation: Representation,
        decoder: DecoderConfig,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
    ):
        super().__init__()
        self.representation = representation
        self.decoder = Decoder(decoder, representation.channels)
        self.low, self.high = low, high

    def forward(self, signal: Any) -> DecodedField:
        """The field of `B` signals, for points `(B, n, 3)`."""
        return DecodedField(self, signal)

    def places(self, points: Float[Tensor, "batch n 3"]) -> tuple[Float[Tensor, "batch n 3"], Bool[Tensor, "batch n"]]:
        """Points of the world in [−1, 1]³ of the box, and which of them are within it."""
        with without_autocast(points.device):
            low, high = points.new_tensor(self.low), points.new_tensor(self.high)
            places = 2 * (points - low) / (high - low) - 1
            return places, (places.abs() <= 1).all(-1)


def _sines(places: Float[Tensor, "*points 3"], octaves: int) -> Float[Tensor, "*points f"]:
    """`(sin 2^k π x / 2, cos 2^k π x / 2)` of every octave `k`."""
    scale = 0.5 * math.pi * 2.0 ** torch.arange(octaves, device=places.device, dtype=places.dtype)
    angles = (places[..., None, :] * scale[:, None]).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], -1)


def _harmonics(directions: Float[Tensor, "batch n 3"]) -> Float[Tensor, "batch n 1 4"]:
    """Real spherical harmonics of degree 0 and 1, divided by the first, of unit directions."""
    x, y, z = directions.unbind(-1)
    root = 3**0.5
    return torch.stack([torch.ones_like(x), root * y, root * z, root * x], -1)[..., None, :]
