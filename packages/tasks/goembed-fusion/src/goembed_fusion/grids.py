"""What the transformers on encoded grids have in common: they come behind an encoder, and are one themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from goembed_core.config import ConfigError
from goembed_core.protocols import Observations
from goembed_core.trees import tree_map
from jaxtyping import Float, Num
from torch import Tensor, nn

from goembed_fusion.config import TransformerConfig


class GridTransformer(nn.Module, ABC):
    """`ζ = refine(ζ_in)`, `ζ_in` the grids that an encoder gives, with no noise and no time.

    **Arguments:**
    - `encoder`: gives grids, and has the forward model that they are signals of; trained and saved with this.
    - `kind`: the representation that is expected of it, whose forward model is called `name`.

    **Raises:** ConfigError for an encoder of anything else, or grids that patches do not tile.
    """

    def __init__(self, encoder: nn.Module, config: TransformerConfig, kind: type[nn.Module], name: str):
        super().__init__()
        representation = encoder.forward_model.decode.representation
        if not isinstance(representation, kind):
            raise ConfigError(
                f"an encoder of {type(representation).__name__}: expected one of {name}, which it improves; "
                f"set forward_model.name={name}"
            )
        side = representation.shape[-1]
        if side % config.patch_size:
            raise ConfigError(f"patch_size={config.patch_size} does not divide the grid's resolution={side}")
        self.config, self.encoder = config, encoder
        self.conformance = encoder.conformance

    @property
    def forward_model(self) -> nn.Module:
        """The encoder's, which the grids are signals of."""
        return self.encoder.forward_model

    def forward(self, observations: Observations, timestep: Num[Tensor, " batch"] | None = None) -> Tensor:
        """How far from the origin the grids are; `(B, ...)`."""
        return self.refine(self.encoder(observations, timestep))

    @abstractmethod
    def refine(self, grids: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """What the network makes of encoded grids; differentiable in them."""

    def signal(self, observations: Observations, **settings: Any) -> Tensor:
        """The signal that the observations lead to; settings are those of the encoder's own `signal`."""
        origin = self.forward_model.origin(len(observations.values), observations.values.device)
        encoded = tree_map(torch.sub, self.encoder.signal(observations, **settings), origin)
        return tree_map(torch.add, origin, self.refine(encoded))

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, Any]:
        """What the encoder has for an example."""
        return self.encoder.example(batch_size, generator)
