"""Encoded planes, improved by a transformer on their patches."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from goembed_core.config import ConfigError
from goembed_core.precision import at_least_float32
from goembed_core.protocols import Observations
from goembed_core.trees import tree_map
from goembed_dit.config import DiTConfig
from goembed_dit.network import DiT
from goembed_triplane.grids import Triplane
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from goembed_fusion.config import PlaneTransformerConfig

SMOOTH = 16  # features of a token in each plane, where they are interpolated
WIDTH = 32  # of the convolutions


class PlaneTransformer(nn.Module):
    """`ζ = ζ_in + unpatch(DiT(patches(ζ_in)))`, `ζ_in` the triplane that an encoder gives, with no noise and no time.

    A token is a patch of all three planes at one place of theirs.  At first the network adds nothing.

    **Arguments:**
    - `encoder`: gives triplanes, and has the forward model that they are signals of; trained and saved with this.

    **Raises:** ConfigError for an encoder whose signals are no triplanes, or planes that patches do not tile.
    """

    def __init__(self, encoder: nn.Module, config: PlaneTransformerConfig):
        super().__init__()
        representation = encoder.forward_model.decode.representation
        if not isinstance(representation, Triplane):
            raise ConfigError(
                f"a transformer on planes of {type(representation).__name__}: expected an encoder of a triplane; set "
                f"forward_model.name=triplane"
            )
        _, channels, side, _ = representation.shape
        if side % config.patch_size:
            raise ConfigError(f"patch_size={config.patch_size} does not divide the planes' resolution={side}")
        self.config, self.encoder = config, encoder
        smooth = config.unpatch == "convolutional"
        resolution = {"convolutional": side // config.patch_size, "overlapping": 2 * side, "linear": side}
        self.network = DiT(
            DiTConfig(
                in_channels=3 * channels,
                height=side,
                width=side,
                patch_size=config.patch_size,
                hidden_size=config.hidden_size,
                depth=config.depth,
                num_heads=config.num_heads,
                head="planes",
                head_std=0.02 if smooth else 0.0,
                num_planes=3,
                plane_channels=SMOOTH if smooth else channels,
                plane_resolution=resolution[config.unpatch],
            )
        )
        self.mix = Mix(channels) if smooth else None
        self.conformance = encoder.conformance

    @property
    def forward_model(self) -> nn.Module:
        """The encoder's, which the planes are signals of."""
        return self.encoder.forward_model

    def forward(self, observations: Observations, timestep: Num[Tensor, " batch"] | None = None) -> Tensor:
        """How far from the origin the planes are; `(B, 3, C, R, R)`."""
        return self.refine(self.encoder(observations, timestep))

    def refine(self, planes: Float[Tensor, "batch 3 c r r"]) -> Float[Tensor, "batch 3 c r r"]:
        """What the network makes of encoded planes; differentiable in them."""
        time = torch.zeros(len(planes), device=planes.device)
        added = self.network(planes.flatten(1, 2), time)
        if self.mix is not None:
            added = self.mix(planes, added)
        elif self.config.unpatch == "overlapping":
            added = overlap(added, self.network.config.grid[0], self.config.patch_size)
        return planes + at_least_float32(added)

    def signal(self, observations: Observations, **settings: Any) -> Tensor:
        """The signal that the observations lead to; settings are those of the encoder's own `signal`."""
        origin = self.forward_model.origin(len(observations.values), observations.values.device)
        encoded = tree_map(torch.sub, self.encoder.signal(observations, **settings), origin)
        return tree_map(torch.add, origin, self.refine(encoded))

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, Any]:
        """What the encoder has for an example."""
        return self.encoder.example(batch_size, generator)


class Mix(nn.Module):
    """Convolutions of planes beside smooth features of their patches: no weight knows where in a patch a cell is."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels + SMOOTH, WIDTH, 3, padding=1, padding_mode="replicate")
        self.last = nn.Conv2d(WIDTH, channels, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, planes: Float[Tensor, "batch 3 c r r"], tokens: Float[Tensor, "batch 3 f t t"]
    ) -> Float[Tensor, "batch 3 c r r"]:
        """Each plane by itself, with the same weights; the features of the tokens are interpolated, twice over."""
        side = planes.shape[-1]
        size = side // tokens.shape[-1]
        features = F.interpolate(tokens.flatten(0, 1), (side, side), mode="bilinear", align_corners=False)
        border = (size // 2, size - 1 - size // 2) * 2
        features = F.avg_pool2d(F.pad(features, border, mode="replicate"), size, stride=1)
        mixed = F.silu(self.first(torch.cat([planes.flatten(0, 1), features], 1)))
        return self.last(mixed).unflatten(0, planes.shape[:2])


def overlap(
    blocks: Float[Tensor, "batch planes c r2 r2"], tokens: int, patch_size: int
) -> Float[Tensor, "batch planes c r r"]:
    """Patches of `2p` cells a side, one beside the other in `blocks`, laid over each other `p` apart and added up.

    Each fades out towards its borders, by `sin²`, so that the weights of the four patches over a cell are one: no seam
    is at the same place of every patch.  At the borders of a plane, where there are fewer, they are divided by what
    they are together.
    """
    batch, planes, channels, side, _ = blocks.shape
    size = 2 * patch_size
    rows = rearrange(blocks, "b n c (i p) (j q) -> (b n) (c p q) (i j)", i=tokens, j=tokens)
    place = (torch.arange(size, device=blocks.device, dtype=blocks.dtype) + 0.5) / size
    fade = (torch.pi * place).sin().square()
    window = (fade[:, None] * fade).flatten()

    def folded(columns: Tensor) -> Tensor:
        return F.fold(columns, (side // 2, side // 2), size, padding=patch_size // 2, stride=patch_size)

    weights = window.repeat(channels)[None, :, None]
    total = folded(window[None, :, None].expand(1, -1, tokens**2))
    return (folded(rows * weights) / total).unflatten(0, (batch, planes))


def from_config(config: PlaneTransformerConfig) -> PlaneTransformer:
    """A transformer behind the encoder that its settings name."""
    return PlaneTransformer(config.encoder.build(), config)
