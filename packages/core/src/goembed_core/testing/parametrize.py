"""The checks as pytest parameters: one test each, with pytest's own words for skipped and expected failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from goembed_core.testing.examine import Examination, Factory
from goembed_core.traits import (
    DatasetTraits,
    DenoiserTraits,
    EncoderTraits,
    ForwardModelTraits,
    Oracle,
    RadianceFieldTraits,
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Expected = Mapping[str, str] | None


def parametrize_forward_model(
    factory: Factory,
    *,
    traits: ForwardModelTraits | None = None,
    expected_failures: Expected = None,
    oracle: Oracle | None = None,
) -> Decorator:
    """Parametrize a test's argument `check` with all checks of a forward model; the test calls `check()`.

    Arguments as of `check_forward_model`.
    """
    options = {"traits": traits, "expected_failures": expected_failures, "oracle": oracle}
    return _parametrize(Examination("forward-model", factory, **options))


def parametrize_encoder(
    factory: Factory, *, traits: EncoderTraits | None = None, expected_failures: Expected = None
) -> Decorator:
    """Parametrize a test's argument `check` with all checks of an encoder."""
    return _parametrize(Examination("encoder", factory, traits=traits, expected_failures=expected_failures))


def parametrize_denoiser(
    factory: Factory, *, traits: DenoiserTraits | None = None, expected_failures: Expected = None
) -> Decorator:
    """Parametrize a test's argument `check` with all checks of a denoiser."""
    return _parametrize(Examination("denoiser", factory, traits=traits, expected_failures=expected_failures))


def parametrize_dataset(
    factory: Factory, *, traits: DatasetTraits | None = None, expected_failures: Expected = None
) -> Decorator:
    """Parametrize a test's argument `check` with all checks of a dataset."""
    return _parametrize(Examination("dataset", factory, traits=traits, expected_failures=expected_failures))


def parametrize_radiance_field(
    factory: Factory, *, traits: RadianceFieldTraits | None = None, expected_failures: Expected = None
) -> Decorator:
    """Parametrize a test's argument `check` with all checks of a radiance field."""
    return _parametrize(Examination("radiance-field", factory, traits=traits, expected_failures=expected_failures))


def _parametrize(examination: Examination) -> Decorator:
    import pytest  # wanted by tests alone

    def test_of(name: str) -> Callable[[], None]:
        def check() -> None:
            __tracebackhide__ = True
            result = examination.result(name)
            if result.status == "failed":
                pytest.fail(result.message, pytrace=False)
            if result.status == "expected":
                pytest.xfail(result.message)
            if result.status == "skipped":
                pytest.skip(result.message)

        return check

    parameters = [pytest.param(test_of(name), id=name) for name in examination.names]
    return pytest.mark.parametrize("check", parameters)
