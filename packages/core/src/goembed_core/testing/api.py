"""The checks as plain functions; free of pytest."""

from __future__ import annotations

from collections.abc import Mapping

from goembed_core.testing.examine import ConformanceError, Examination, Factory, Result
from goembed_core.traits import (
    DatasetTraits,
    DenoiserTraits,
    EncoderTraits,
    ForwardModelTraits,
    Oracle,
    RadianceFieldTraits,
)

Expected = Mapping[str, str] | None


def require_no_failure(results: list[Result]) -> list[Result]:
    """The results; ConformanceError with all failures if there are any."""
    if any(result.status == "failed" for result in results):
        raise ConformanceError(results)
    return results


def check_forward_model(
    factory: Factory,
    *,
    traits: ForwardModelTraits | None = None,
    expected_failures: Expected = None,
    oracle: Oracle | None = None,
) -> list[Result]:
    """Check a forward model against every law; ConformanceError, which has all results, if one is broken.

    **Arguments:**
    - `factory`: builds the forward model; called anew for each check.
    - `traits`: what it promises; its own attribute `conformance` if not given.
    - `expected_failures`: name of a check to the reason why it fails.  One that holds after all is a failure.
    - `oracle`: `oracle(model, signal, params)`, a slow forward model that is obviously right.
    """
    options = {"traits": traits, "expected_failures": expected_failures, "oracle": oracle}
    return require_no_failure(Examination("forward-model", factory, **options).results())


def check_encoder(
    factory: Factory, *, traits: EncoderTraits | None = None, expected_failures: Expected = None
) -> list[Result]:
    """Check an encoder; arguments and errors as of `check_forward_model`."""
    examination = Examination("encoder", factory, traits=traits, expected_failures=expected_failures)
    return require_no_failure(examination.results())


def check_denoiser(
    factory: Factory, *, traits: DenoiserTraits | None = None, expected_failures: Expected = None
) -> list[Result]:
    """Check a denoiser; arguments and errors as of `check_forward_model`."""
    examination = Examination("denoiser", factory, traits=traits, expected_failures=expected_failures)
    return require_no_failure(examination.results())


def check_dataset(
    factory: Factory, *, traits: DatasetTraits | None = None, expected_failures: Expected = None
) -> list[Result]:
    """Check a dataset; arguments and errors as of `check_forward_model`."""
    examination = Examination("dataset", factory, traits=traits, expected_failures=expected_failures)
    return require_no_failure(examination.results())


def check_radiance_field(
    factory: Factory, *, traits: RadianceFieldTraits | None = None, expected_failures: Expected = None
) -> list[Result]:
    """Check a radiance field; arguments and errors as of `check_forward_model`."""
    examination = Examination("radiance-field", factory, traits=traits, expected_failures=expected_failures)
    return require_no_failure(examination.results())
