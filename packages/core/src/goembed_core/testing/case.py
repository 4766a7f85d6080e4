"""What the laws are checked on: a component that is built anew for each law, and its own example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from goembed_core.errors import UserError
from goembed_core.testing.compare import clone, seed_everything
from goembed_core.trees import select_items, select_views, tree_map


class ForwardModelInputs(NamedTuple):
    """The arguments of a forward model."""

    signal: Any
    params: Any


class DenoiserInputs(NamedTuple):
    """The arguments of a denoiser."""

    context: Any
    noisy_target: Any
    timestep: Any


class EncoderInputs(NamedTuple):
    """The arguments of an encoder."""

    observations: Any
    timestep: Any


class FieldInputs(NamedTuple):
    """The arguments of a radiance field."""

    points: Any
    directions: Any


INPUTS: dict[str, Any] = {
    "forward-model": ForwardModelInputs,
    "denoiser": DenoiserInputs,
    "encoder": EncoderInputs,
    "radiance-field": FieldInputs,
}


class Case:
    """One component under examination.

    **Arguments:**
    - `kind`: as plugins register it.
    - `factory`: builds the component.
    - `traits`: what it promises; its attribute `conformance` if not given.
    - `default`: what a component without that attribute promises.
    - `oracle`: of a forward model; that of its traits if not given.
    """

    def __init__(
        self,
        kind: str,
        factory: Callable[[], Any],
        traits: Any,
        default: Any,
        oracle: Callable[..., Any] | None = None,
    ):
        self.kind = kind
        self.factory = factory
        self.given_traits = traits
        self.default_traits = default
        self.given_oracle = oracle
        self._traits: Any = None
        self._examples: dict[tuple[int, int], Any] = {}

    @property
    def traits(self) -> Any:
        """What the component promises."""
        if self._traits is None:
            self._traits = self.traits_of(self.build()) if self.given_traits is None else self.given_traits
        return self._traits

    @property
    def oracle(self) -> Callable[..., Any] | None:
        """A slow forward model that is obviously right."""
        return self.given_oracle or self.traits.oracle

    def traits_of(self, component: Any) -> Any:
        """What a component declares."""
        traits = getattr(component, "conformance", self.default_traits)
        if not isinstance(traits, type(self.default_traits)):
            expected = type(self.default_traits).__name__
            raise UserError(f"conformance = {traits!r} is a {type(traits).__name__}; expected {expected}(...)")
        return traits

    def build(self, seed: int = 0) -> Any:
        """A new one; of a network the weights are moved, as layers that start at zero would hide what is wrong."""
        seed_everything(seed)
        component = self.factory()
        if isinstance(component, nn.Module):
            component.eval()
            if self.kind != "forward-model":
                move_weights(component, seed)
        return component

    def inputs(self, batch: int | None = None, seed: int = 0) -> Any:
        """Copies of the component's own example, `batch` signals of it."""
        key = (self.batch if batch is None else batch, seed)
        if key not in self._examples:
            self._examples[key] = self.example(self.build(), *key)
        return clone(self._examples[key])

    def example(self, component: Any, batch: int, seed: int) -> Any:
        """What its `example` gives, by name."""
        given = component.example(batch, torch.Generator().manual_seed(seed))
        return INPUTS[self.kind](*given)

    @property
    def batch(self) -> int:
        """An even number of signals, other than the number of their views."""
        found = self._examples.get((4, 0))
        if found is None:
            found = self._examples[4, 0] = self.example(self.build(), 4, 0)
        return 6 if self.kind == "forward-model" and num_views(found.params) == 4 else 4

    def call(self, component: Any, inputs: Any) -> Any:
        """A copy of the output for copies of the inputs, without gradients: what is written to stays within."""
        found = self.raw_call(component, clone(inputs))
        try:
            return clone(found)
        except TypeError:  # no tree of tensors, which is a law of its own
            return found

    def raw_call(self, component: Any, inputs: Any) -> Any:
        """The very output for the very inputs, without gradients."""
        with torch.no_grad():
            return component(*inputs)

    def with_views(self, batch: int | None = None) -> Any:
        """A forward model's example with an even number of views, those of two examples side by side."""
        first, second = self.inputs(batch), self.inputs(batch, seed=1)
        params = tree_map(lambda a, b: torch.cat([a, b], 1), first.params, second.params)
        return first._replace(params=params)

    def modes(self, component: Any) -> Iterator[str]:
        """Put a network into each mode in which items may be compared."""
        if not isinstance(component, nn.Module):
            yield "always"
            return
        component.eval()
        yield "in evaluation mode"
        if not getattr(self.traits, "stochastic_training", False):
            component.train()
            yield "in training mode"


def num_views(params: Any) -> int:
    """`V` by the first leaf of `φ`; 0 without leaves."""
    found: list[int] = []
    tree_map(lambda leaf: found.append(leaf.shape[1]) or leaf, params)
    return found[0] if found else 0


def items(inputs: Any, index: slice) -> Any:
    """Some signals of an example."""
    return select_items(inputs, index)


def views(inputs: Any, index: Any) -> Any:
    """Some views of a forward model's example."""
    return inputs._replace(params=select_views(inputs.params, index))


def move_weights(module: nn.Module, seed: int) -> None:
    """Add noise of a tenth to every trained weight."""
    generator = torch.Generator().manual_seed(seed + 7)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.requires_grad and weight.is_floating_point():
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
                weight.add_(0.1 * noise.to(weight.dtype))


def moved(component: Any, target: torch.dtype | str) -> Any:
    """A module in another dtype or on another device; what is no module takes both from its inputs."""
    return component.to(target) if isinstance(component, nn.Module) else component


def as_tensor_tree(tree: Any) -> bool:
    """Whether a tree has leaves, and tensors alone."""
    found: list[Tensor] = []
    try:
        tree_map(lambda leaf: found.append(leaf) or leaf, tree)
    except TypeError:
        return False
    return bool(found)
