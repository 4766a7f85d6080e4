"""Running the laws, and what came of each; free of pytest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from goembed_core.errors import UserError, did_you_mean
from goembed_core.testing import datasets, forward_models, networks, radiance_fields
from goembed_core.testing.case import Case
from goembed_core.testing.compare import isolated
from goembed_core.testing.laws import Broken, Law, NotApplicable
from goembed_core.traits import (
    DatasetTraits,
    DenoiserTraits,
    EncoderTraits,
    ForwardModelTraits,
    RadianceFieldTraits,
)

Factory = Callable[[], Any]
Status = Literal["passed", "failed", "expected", "skipped"]

LAWS: dict[str, tuple[Law, ...]] = {
    "forward-model": forward_models.LAWS,
    "encoder": networks.LAWS,
    "denoiser": networks.LAWS,
    "dataset": datasets.LAWS,
    "radiance-field": radiance_fields.LAWS,
}
TRAITS: dict[str, Any] = {
    "forward-model": ForwardModelTraits(),
    "encoder": EncoderTraits(),
    "denoiser": DenoiserTraits(),
    "dataset": DatasetTraits(),
    "radiance-field": RadianceFieldTraits(),
}


class Result(NamedTuple):
    """What came of one check."""

    name: str
    law: str
    status: Status
    message: str  # of a failure: law, what happened, likely cause; else the reason
    seconds: float


class ConformanceError(AssertionError):
    """Some checks failed; the text has every failure, `results` all that was checked."""

    def __init__(self, results: Sequence[Result]):
        failed = [result for result in results if result.status == "failed"]
        texts = "\n".join(result.message for result in failed)
        super().__init__(f"{len(failed)} of {len(results)} checks failed\n{texts}")
        self.results = list(results)


class Examination:
    """The checks of one component, each run at most once, when it is asked for.

    **Arguments:**
    - `kind`: as plugins register it.
    - `factory`: builds the component; called anew for each check.
    - `traits`: what it promises; its own attribute `conformance` if not given.
    - `expected_failures`: name of a check to the reason, besides those of the traits.
    - `oracle`: forward models only; takes the place of the traits' one.
    """

    def __init__(
        self,
        kind: str,
        factory: Factory,
        *,
        traits: Any = None,
        expected_failures: Mapping[str, str] | None = None,
        oracle: Callable[..., Any] | None = None,
    ):
        if kind not in LAWS:
            raise UserError(f"there are no checks for kind {kind!r}{did_you_mean(kind, LAWS)}; {', '.join(LAWS)}")
        if not callable(factory):
            raise UserError(f"factory={factory!r}: expected a function that builds the {kind.replace('-', ' ')}")
        if traits is not None and not isinstance(traits, type(TRAITS[kind])):
            raise UserError(f"traits={traits!r}: expected a {type(TRAITS[kind]).__name__}")
        self.kind = kind
        self.laws = LAWS[kind]
        self.case = Case(kind, factory, traits, TRAITS[kind], oracle)
        self.given_failures = dict(expected_failures or {})
        self._require_known(self.given_failures)
        self._results: dict[str, Result] = {}

    @property
    def names(self) -> list[str]:
        """The checks, in their order."""
        return [entry.name for entry in self.laws]

    def result(self, name: str) -> Result:
        """What came of one check, those it needs having been run before it."""
        if name not in self._results:
            position = self.names.index(name)
            needed = [entry.name for entry in self.laws[:position] if entry.is_prerequisite]
            unmet = next((other for other in needed if self.result(other).status != "passed"), None)
            entry = self.laws[position]
            if unmet is None:
                self._results[name] = self._run(entry)
            else:
                self._results[name] = Result(name, entry.text, "skipped", f"needs {unmet}, which does not hold", 0.0)
        return self._results[name]

    def results(self) -> list[Result]:
        """What came of every check."""
        return [self.result(name) for name in self.names]

    def _run(self, entry: Law) -> Result:
        start = time.perf_counter()
        status, message = "passed", ""
        try:
            with isolated():
                entry.run(self.case)
        except NotApplicable as reason:
            status, message = "skipped", str(reason)
        except Broken as broken:
            status, message = "failed", _message(entry, broken.happened, broken.cause)
        except Exception as error:
            status, message = "failed", _message(entry, _raised(error), None)
        expected = self._expected()
        if entry.name in expected and status == "failed":
            status, message = "expected", f"{expected[entry.name]}\n{message}"
        elif entry.name in expected and status == "passed":
            happened = f"it holds, though expected_failures says that it does not: {expected[entry.name]!r}"
            status, message = "failed", _message(entry, happened, "what was wrong is mended; take the entry out")
        return Result(entry.name, entry.text, status, message, time.perf_counter() - start)

    def _expected(self) -> dict[str, str]:
        """The failures that are expected; those that the component itself declares need it to be built."""
        try:
            with isolated():
                declared = dict(self.case.traits.expected_failures)
        except Exception:  # which is the failure of `builds`
            return self.given_failures
        self._require_known(declared)
        return declared | self.given_failures

    def _require_known(self, expected: Mapping[str, str]) -> None:
        for name, reason in expected.items():
            if name not in self.names:
                raise UserError(
                    f"expected_failures names {name!r}, which is no check{did_you_mean(name, self.names)}; "
                    f"there are {', '.join(self.names)}"
                )
            if not isinstance(reason, str) or not reason.strip():
                raise UserError(f"expected_failures[{name!r}]={reason!r}: expected the reason why it fails")


def _message(entry: Law, happened: str, cause: str | None) -> str:
    return (
        f"{entry.name}\n  law:           {entry.text}\n  what happened: {happened}\n"
        f"  likely cause:  {cause or entry.cause}"
    )


def _raised(error: Exception) -> str:
    """An exception of the component, and where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text:.300} (raised in {frame.name}, {Path(frame.filename).name}:{frame.lineno})"
