"""What a component promises beyond its protocol, for the conformance suite: its class attribute `conformance`.

Without the attribute the defaults hold.  Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Reasons = Mapping[str, str]  # name of a check to the reason why it fails
Oracle = Callable[[Any, Any, Any], Any]


class ForwardModelTraits(NamedTuple):
    """What a forward model promises.  Leaves are called after their field (`colour`), a lone tensor `signal`.

    **Arguments:**
    - `not_differentiable`: floating-point leaves of the signal that get no gradient; all others must get one.
    - `ignored_params`: leaves of `φ` that the output may not depend on.
    - `twice_differentiable`: second derivatives are right too; implied by a method `origin`, as gradient-origin
      embeddings are trained through a gradient.
    - `compiles`: `torch.compile(..., fullgraph=True)` works.
    - `vmaps`: `torch.func.vmap` over the signals works.
    - `oracle`: `oracle(model, signal, params)`, a slow and obviously right forward model.
    - `tolerance`: largest error in float32, and against the oracle, relative to the largest value.
    - `bfloat16_tolerance`: error under bfloat16 autocast, in root mean square relative to the output's.
    - `expected_failures`: name of a check to the reason why it fails; one that holds after all is a failure.
    """

    not_differentiable: tuple[str, ...] = ()
    ignored_params: tuple[str, ...] = ()
    twice_differentiable: bool = False
    compiles: bool = False
    vmaps: bool = False
    oracle: Oracle | None = None
    tolerance: float = 1e-4
    bfloat16_tolerance: float = 0.1
    expected_failures: Reasons = {}  # noqa: RUF012 - never written to


class DenoiserTraits(NamedTuple):
    """What a denoiser promises.

    **Arguments:**
    - `uses_context`: the signal depends on the context.
    - `uses_params`: the signal depends on `φ`, of the context or of the noisy target.
    - `context_is_a_set`: the order of the context's views does not matter.
    - `stochastic_training`: dropout and the like; items are then compared in evaluation mode alone.
    - `compiles`, `vmaps`, `tolerance`, `bfloat16_tolerance`, `expected_failures`: as in `ForwardModelTraits`.
    """

    uses_context: bool = True
    uses_params: bool = False
    context_is_a_set: bool = False
    stochastic_training: bool = False
    compiles: bool = False
    vmaps: bool = False
    tolerance: float = 1e-4
    bfloat16_tolerance: float = 0.1
    expected_failures: Reasons = {}  # noqa: RUF012 - never written to


class EncoderTraits(NamedTuple):
    """What an encoder promises.

    **Arguments:**
    - `uses_params`: the features depend on `φ`.
    - `uses_timestep`: the features depend on the timestep.
    - `observations_are_a_set`: features are of the signal, and the order of its observations does not matter.
    - `stochastic_training`, `compiles`, `vmaps`, `tolerance`, `bfloat16_tolerance`, `expected_failures`: as in
      `DenoiserTraits`.
    """

    uses_params: bool = True
    uses_timestep: bool = False
    observations_are_a_set: bool = False
    stochastic_training: bool = False
    compiles: bool = False
    vmaps: bool = False
    tolerance: float = 1e-4
    bfloat16_tolerance: float = 0.1
    expected_failures: Reasons = {}  # noqa: RUF012 - never written to


class DatasetTraits(NamedTuple):
    """What a dataset promises.

    **Arguments:**
    - `equal_shapes`: items have one shape, and torch's default collate makes a batch of them.
    - `expected_failures`: as in `ForwardModelTraits`.
    """

    equal_shapes: bool = True
    expected_failures: Reasons = {}  # noqa: RUF012 - never written to


class RadianceFieldTraits(NamedTuple):
    """What a radiance field promises.

    **Arguments:**
    - `view_dependent`: the colour depends on the direction that it is seen along.
    - `differentiable_points`: density and colour have a gradient at the points.
    - `stochastic_training`, `tolerance`, `bfloat16_tolerance`, `expected_failures`: as in `DenoiserTraits`.
    """

    view_dependent: bool = True
    differentiable_points: bool = True
    stochastic_training: bool = False
    tolerance: float = 1e-4
    bfloat16_tolerance: float = 0.1
    expected_failures: Reasons = {}  # noqa: RUF012 - never written to
