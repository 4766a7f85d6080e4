"""The contracts: what a forward model, an encoder and a denoiser are.

One idea: the signal `S` is never seen, only `O = forward(S, φ)`.  A signal is a tensor, a NamedTuple of tensors, or an
object with methods (a radiance field); `φ` is a NamedTuple of tensors whose leaves are all `(B, V, ...)`.

Every `example` feeds the conformance suite, `goembed_core.testing`.  What a component promises beyond its protocol it
may declare by a class attribute `conformance`, of a type in `goembed_core.traits`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor


class Observations(NamedTuple):
    """V observations of each of B signals, and the parameters `φ` under which they were made."""

    values: Tensor  # (B, V, *observation)
    params: Any  # φ: a NamedTuple of tensors, every leaf (B, V, ...)


@runtime_checkable
class ForwardModel(Protocol):
    """`O = forward(S, φ)` (DFM eq. 5): how a signal is observed; differentiable in the signal."""

    def __call__(self, signal: Any, params: Any) -> Num[Tensor, "batch views ..."]:
        """Observe every signal of a batch under each of its `V` parameters: `(B, V, *observation)`."""
        ...

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Any, Any]:
        """A valid `(signal, params)` of `batch_size` signals, for the conformance suite."""
        ...


@runtime_checkable
class GradientOrigin(Protocol):
    """A forward model with a signal origin `ζ0`, for which gradient-origin embeddings exist."""

    def origin(self, batch_size: int, device: torch.device) -> Any:
        """The origin `ζ0` of the signal space, `batch_size` times."""
        ...


class OriginView(NamedTuple):
    """What a forward model shows of the origin, and the adjoint of its derivative there."""

    values: Tensor  # forward(ζ0, φ), (B, V, *observation)
    pullback: Callable[[Tensor], Any]  # from weights of the values to the gradient at ζ0 of their weighted sum


@runtime_checkable
class OriginPullback(Protocol):
    """A forward model that knows its derivative at its origin by a shorter way than automatic differentiation."""

    def origin_pullback(self, origin: Any, params: Any) -> OriginView | None:
        """The origin `ζ0`, its own, as it is seen under `φ`; None where the shorter way does not hold.

        Both parts of the view are differentiable in what the forward model learns, where gradients are recorded.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """Turns observations into features: of the signal's own space, or per pixel."""

    def __call__(self, observations: Observations, timestep: Num[Tensor, " batch"] | None = None) -> Any:
        """The features, every leaf `(B, ...)`.  `timestep` is given when the observations are noisy."""
        ...

    def example(self, batch_size: int, generator: torch.Generator) -> tuple[Observations, Num[Tensor, " batch"] | None]:
        """Valid `(observations, timestep)` of `batch_size` signals, for the conformance suite."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """`S = denoise(O_ctxt, O_t_trgt; t, φ)` (DFM eq. 4): the signal that explains a context and a noisy target."""

    def __call__(self, context: Observations, noisy_target: Observations, timestep: Num[Tensor, " batch"]) -> Any:
        """Estimate the signal.  `timestep` is the discrete diffusion time of each item, `(B,)`, in `[0, T)`."""
        ...

    def example(
        self, batch_size: int, generator: torch.Generator
    ) -> tuple[Observations | None, Observations, Num[Tensor, " batch"]]:
        """A valid `(context, noisy_target, timestep)` of `batch_size` signals, for the conformance suite."""
        ...


@runtime_checkable
class Dataset(Protocol):
    """Observations of many signals, by number; which of them are context and target is drawn elsewhere."""

    def __len__(self) -> int:
        """The number of signals."""
        ...

    def __getitem__(self, index: int) -> Any:
        """One signal's item, a NamedTuple of tensors and numbers; IndexError outside of `[-len, len)`."""
        ...

    def observations(self, indices: Int[Tensor, " batch"]) -> Observations:
        """The observations of some signals: values `(B, V, ...)`."""
        ...


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network whose features distances between sets of images are measured in (never called FID unless Inception)."""

    name: str  # stands in the name of every figure made with it
    num_features: int

    def __call__(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n features"]:
        """Features of images in [-1, 1]."""
        ...


@runtime_checkable
class ClassifierNetwork(FeatureNetwork, Protocol):
    """A feature network that also names what it sees."""

    classes: tuple[str, ...]

    def logits(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
        """Unnormalised log-probabilities of images in [-1, 1]."""
        ...
