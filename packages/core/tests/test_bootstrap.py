"""Intervals: against theory, and by how often they hold."""

import math

import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.metrics.bootstrap import bootstrap_distance_interval, bootstrap_interval, median
from goembed_core.metrics.distances import frechet_distance, kernel_distance
from goembed_core.metrics.distribution import distribution_metrics


def test_interval_of_a_mean_is_the_standard_error():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 3 + 5
    low, high = bootstrap_interval(values, n=4000, generator=torch.Generator().manual_seed(1))
    standard_error = values.std().item() / math.sqrt(400)
    assert low == pytest.approx(values.mean().item() - 1.96 * standard_error, abs=0.1 * standard_error)
    assert high == pytest.approx(values.mean().item() + 1.96 * standard_error, abs=0.1 * standard_error)


def test_interval_holds_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(150):
        low, high = bootstrap_interval(torch.randn(60, generator=generator), n=150, generator=generator, level=0.8)
        hits += low <= 0 <= high
    assert 0.7 < hits / 150 < 0.9


def test_another_statistic_and_a_fixed_generator():
    values = torch.cat([torch.zeros(50), torch.full((3,), 1e6)])

    def interval(seed):
        return bootstrap_interval(values, median, 100, generator=torch.Generator().manual_seed(seed))

    assert interval(0) == (0.0, 0.0)
    values = torch.arange(100.0)
    assert interval(0) == interval(0) != interval(1)


def test_interval_of_a_distance_is_around_it_although_resampling_is_biased():
    """A resample repeats samples, which puts every resampled Fréchet distance far above the distance itself."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, 20, generator=generator), torch.randn(40, 20, generator=generator)
    value = frechet_distance(a, b)
    resampled = [frechet_distance(a[torch.randint(40, (40,), generator=generator)], b) for _ in range(10)]
    assert min(resampled) > value
    low, high = bootstrap_distance_interval(frechet_distance, a, b, 20, generator=generator)
    assert (low + high) / 2 == pytest.approx(value)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_interval_of_a_distance_has_the_width_of_its_spread(distance):
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(100, 2, generator=generator), torch.randn(100, 2, generator=generator) + 1

    spread = torch.tensor([distance(*draw()) for _ in range(300)]).std().item()
    widths = [bootstrap_distance_interval(distance, *draw(), 60, generator=generator) for _ in range(8)]
    mean_width = sum(high - low for low, high in widths) / len(widths)
    assert mean_width / (2 * 1.96) == pytest.approx(spread, rel=0.3)


def test_distribution_metrics_are_named_after_their_features_and_count():
    generator = torch.Generator().manual_seed(0)
    generated, real = torch.randn(1000, 3, generator=generator), torch.randn(300, 3, generator=generator)
    metrics = distribution_metrics(generated, real, "efficientnet-lite0", generator=generator, resamples=5)
    assert list(metrics) == ["frechet_efficientnet-lite0_1k", "kernel_efficientnet-lite0_1k"]
    frechet = metrics["frechet_efficientnet-lite0_1k"]
    assert frechet.value == frechet_distance(generated, real) and frechet.n == 1000 and not frechet.higher_is_better
    assert frechet.interval[0] < frechet.value < frechet.interval[1]
    assert frechet.note == "1,000 generated against 300 real images in efficientnet-lite0 features; not a FID"
    metrics = distribution_metrics(generated[:123], real, "inception", generator=generator, resamples=0)
    assert list(metrics) == ["frechet_inception_123", "kernel_inception_123"]
    assert metrics["frechet_inception_123"].interval is None
    assert "FID" not in metrics["frechet_inception_123"].note


def test_errors_say_what_is_wrong():
    generator = torch.Generator()
    with pytest.raises(UserError, match=r"at least 2 values; got shape \(1,\)"):
        bootstrap_interval(torch.zeros(1), generator=generator)
    with pytest.raises(UserError, match=r"got n=1, level=0\.95"):
        bootstrap_interval(torch.zeros(5), n=1, generator=generator)
    with pytest.raises(UserError, match="got n=1000, level=95"):
        bootstrap_interval(torch.zeros(5), generator=generator, level=95)
