"""How far a set of generated images is from a set of real ones, under names that say how it was measured."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from goembed_core.metrics.bootstrap import bootstrap_distance_interval
from goembed_core.metrics.distances import frechet_distance, kernel_distance
from goembed_core.metrics.results import MetricValue, metric_name


def distribution_metrics(
    generated: Float[Tensor, "n features"],
    real: Float[Tensor, "m features"],
    network: str,
    *,
    generator: torch.Generator,
    resamples: int = 20,
) -> dict[str, MetricValue]:
    """The Fréchet and the kernel distance of two sets of features.

    **Arguments:**
    - `network`: the name of the feature network, which becomes part of the figures' names, as does `n`.
    - `resamples`: of the intervals; each costs as much as the distances themselves.  0 leaves the intervals out.
    """
    note = f"{len(generated):,} generated against {len(real):,} real images in {network} features"
    if network != "inception":
        note += "; not a FID"
    metrics = {}
    for measure, distance in {"frechet": frechet_distance, "kernel": kernel_distance}.items():
        interval = None
        if resamples:
            interval = bootstrap_distance_interval(distance, generated, real, resamples, generator=generator)
        metrics[metric_name(measure, network, len(generated))] = MetricValue(
            distance(generated, real), False, len(generated), note, interval
        )
    return metrics
