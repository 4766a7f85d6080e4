"""The encoder that needs no network: minus the gradient of the forward model's error at the origin."""

from __future__ import annotations

from typing import Any

import torch
from goembed_core.errors import UserError
from goembed_core.precision import at_least_float32, without_autocast
from goembed_core.protocols import ForwardModel, GradientOrigin, Observations, OriginPullback
from goembed_core.randomness import ItemRandom
from goembed_core.shapes import require_views
from goembed_core.traits import EncoderTraits
from goembed_core.trees import named_leaves, tree_map
from jaxtyping import Float, Num
from torch import Tensor, nn

from goembed_encoder.config import EncodingConfig, GOEmbedConfig
from goembed_encoder.gradient import (
    Draw,
    Part,
    Split,
    error_gradient,
    leaves_of,
    numbers_of,
    parts_of,
    shortcut_gradient,
)
from goembed_encoder.scale import Scale


class GOEmbed(nn.Module):
    """`ζ_enc = −s ∇_{ζ0} ||O − forward(ζ0, φ)||²` (GON eq. 1, GOEmbed): for any forward model with an origin.

    The error is summed over the batch and a signal's views, and is the mean over the numbers of an observation: an
    encoding does not depend on its neighbours, the order of views does not matter, and no views give zero.  Where
    gradients are recorded it is differentiable in the observations and in all that the forward model learns, which is
    its only network.  It computes in float32 (or float64) whatever autocast says.

    **Arguments:**
    - `forward_model`: a `ForwardModel` and `GradientOrigin`; where it is an `OriginPullback` too, the first step takes
      its shortcut whenever it holds.  It is trained and saved with the encoder.
    - `config`: the settings.

    **Raises:** UserError for a forward model without an origin, or a `leaf_gain` of a leaf that no signal has.
    """

    def __init__(self, forward_model: ForwardModel, config: EncodingConfig):
        super().__init__()
        if not isinstance(forward_model, GradientOrigin):
            raise UserError(
                f"the forward model {type(forward_model).__name__} has no method origin(batch_size, device): "
                f"expected one whose signals have an origin"
            )
        self.config = config
        self.forward_model = forward_model
        origin = forward_model.origin(1, torch.device("cpu"))
        shapes = {name: leaf.shape for name, leaf in named_leaves(origin, "signal").items()}
        self.scale = Scale(shapes, config) if config.scale == "learned" else None
        self.conformance = EncoderTraits(uses_timestep=config.timesteps is not None, observations_are_a_set=True)

    def forward(
        self,
        observations: Observations,
        timestep: Num[Tensor, " batch"] | None = None,
        *,
        mask: Num[Tensor, "batch views ..."] | None = None,
        draw: Draw | None = None,
        random: ItemRandom | None = None,
        split: Split | None = None,
    ) -> Any:
        """How far from the origin the observations lead: a tree as the forward model's signals, zero without views.

        After `n` steps it is `ζ_n − ζ_0` of `ζ_{i+1} = ζ_i − s_i ∇_{ζ_i} ||O − forward(ζ_i, φ)||²`.

        **Arguments:**
        - `timestep`: of observations that were noised; needs the setting `timesteps`.
        - `mask`: weight of each number in the error, `(B, V, ...)`, which may leave out later dimensions or have them
          of size 1; 0 for what is unknown, whose values are then not looked at.  A whole view may be masked, but its
          `φ` has to be valid.  Not differentiated.
        - `draw`: `draw(observations, random, step)` gives some numbers of each observation, such as some of its rays,
          anew for each step (of `0, 1, …`); the gradient is then right on average.  Needs `random`.
        - `split`: gives parts that are all of the observations together, such as some rays each; one is held at a time,
          and computed again where gradients are recorded.  In place of the setting `chunk_views`.

        **Raises:** UserError for shapes that do not go together.
        """
        _, displacement = self._walk(observations, timestep, mask, draw, random, split)
        return displacement

    def signal(
        self,
        observations: Observations,
        timestep: Num[Tensor, " batch"] | None = None,
        *,
        mask: Num[Tensor, "batch views ..."] | None = None,
        draw: Draw | None = None,
        random: ItemRandom | None = None,
        split: Split | None = None,
    ) -> Any:
        """The signal that the observations lead to, `ζ_0 + ζ_enc`: what the forward model can look at; as `forward`."""
        origin, displacement = self._walk(observations, timestep, mask, draw, random, split)
        return tree_map(torch.add, origin, displacement)

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, Num[Tensor, " batch"] | None]:
        """What the forward model shows of its own example, and different timesteps where they are known."""
        signal, params = self.forward_model.example(batch_size, generator)
        with torch.no_grad():
            values = self.forward_model(signal, params)
        if self.config.timesteps is None:
            return Observations(values, params), None
        first = torch.randint(self.config.timesteps, (1,), generator=generator)
        step = max(self.config.timesteps // max(batch_size, 1), 1)
        return Observations(values, params), (first + step * torch.arange(batch_size)) % self.config.timesteps

    def _walk(
        self,
        observations: Observations,
        timestep: Tensor | None,
        mask: Tensor | None,
        draw: Draw | None,
        random: ItemRandom | None,
        split: Split | None,
    ) -> tuple[Any, Any]:
        """The origin, and how far from it the steps lead."""
        self._require(observations, timestep, mask, draw, random)
        recorded = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad(), without_autocast(observations.values.device):
            observations = tree_map(_usable, observations)
            if not observations.values.is_floating_point():
                observations = observations._replace(values=observations.values.float())
            weight = None if mask is None else _usable(_like(mask, observations.values)).to(observations.values.dtype)
            if weight is not None:
                observations = observations._replace(values=observations.values.masked_fill(weight == 0, 0))
            origin = self._origin(observations.values)
            displacement = tree_map(torch.zeros_like, origin)
            for step in range(self.config.steps if observations.values.shape[1] else 0):
                seen, weights = observations, weight
                if draw is not None:
                    name = f"step {step}"
                    seen = draw(observations, random.stream(name), step)
                    if weight is not None:
                        weights = draw(observations._replace(values=weight), random.stream(name), step).values
                share = self._share(seen.values, weight)
                parts = parts_of(seen, weights, share, split, self.config.chunk_views)
                signal = tree_map(torch.add, origin, displacement) if step else origin
                gradients = self._gradient(signal, parts, step, recorded and not self.config.detach)
                with torch.set_grad_enabled(recorded):
                    scaled = iter(gradients if self.scale is None else self.scale(gradients, step, timestep))
                    displacement = tree_map(lambda leaf, s=scaled: leaf - next(s), displacement)
        if not recorded:
            origin, displacement = (tree_map(torch.detach, tree) for tree in (origin, displacement))
        return origin, displacement

    def _gradient(self, signal: Any, parts: list[Part], step: int, record: bool) -> list[Tensor]:
        model = self.forward_model
        # Recorded in parts, the shortcut would hold all of them.
        if step == 0 and isinstance(model, OriginPullback) and not (record and len(parts) > 1):
            found = shortcut_gradient(model, signal, parts, record)
            if found is not None:
                return found
        if not record:
            signal = tree_map(lambda leaf: leaf.detach().requires_grad_(), signal)
        return error_gradient(model, signal, parts, record)

    def _origin(self, values: Tensor) -> Any:
        """`ζ_0` of the batch, of the observations' precision."""
        origin = self.forward_model.origin(len(values), values.device)

        def prepare(leaf: Tensor) -> Tensor:
            leaf = leaf.to(values.dtype)
            return leaf if leaf.requires_grad else leaf.detach().clone().requires_grad_()

        return tree_map(prepare, origin)

    def _share(self, values: Tensor, weight: Tensor | None) -> Float[Tensor, "#batch"]:
        """What each number of the (drawn) values has in the error of its signal, `weight` being that of all numbers."""
        share = values.new_full((1,), 1 / max(numbers_of(values), 1))
        if self.config.views == "sum":
            return share
        if weight is None:
            return share / values.shape[1]
        return share / (weight != 0).flatten(2).any(2).sum(1).clamp(min=1)

    def _require(
        self,
        observations: Observations,
        timestep: Tensor | None,
        mask: Tensor | None,
        draw: Draw | None,
        random: ItemRandom | None,
    ) -> None:
        shape = tuple(observations.values.shape)
        if len(shape) < 2:
            raise UserError(f"observations of shape {shape}, expected (batch, views, ...)")
        leaves = leaves_of(observations.params)
        views = require_views(observations.params, shape[0])
        if leaves and views != shape[1]:
            raise UserError(f"{shape[1]} observations of each signal, and φ of {views}: expected as many")
        if timestep is not None and tuple(timestep.shape) != shape[:1]:
            raise UserError(
                f"a timestep of shape {tuple(timestep.shape)} for {shape[0]} signals, expected ({shape[0]},)"
            )
        if timestep is not None and self.config.timesteps is None:
            raise UserError(
                "a timestep was given, but the scale knows clean observations alone: set timesteps to the T of the "
                "schedule, or give none"
            )
        if mask is not None:
            _like(mask, observations.values)
        if draw is not None and random is None:
            raise UserError("draw was given without random: give an ItemRandom, of an item per signal")


def from_config(config: GOEmbedConfig) -> GOEmbed:
    """A gradient-origin encoder around the forward model that its settings name."""
    return GOEmbed(config.forward_model.build(), config)


def _usable(leaf: Tensor) -> Tensor:
    """In float32 or float64, and made outside of inference mode, where nothing can be differentiated."""
    leaf = at_least_float32(leaf) if leaf.is_floating_point() else leaf
    return leaf.clone() if leaf.is_inference() else leaf


def _like(mask: Tensor, values: Tensor) -> Tensor:
    """A mask of the values' shape."""
    shape = tuple(mask.shape)
    padded = mask.reshape(*shape, *(1,) * (values.dim() - len(shape))) if len(shape) >= 2 else mask
    fits = padded.dim() == values.dim() and padded.shape[:2] == values.shape[:2]
    if not fits or any(m not in (1, v) for m, v in zip(padded.shape, values.shape, strict=True)):
        raise UserError(
            f"a mask of shape {shape} for observations of shape {tuple(values.shape)}: expected (B, V, ...)"
        )
    return padded.expand(values.shape)
