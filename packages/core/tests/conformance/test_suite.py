"""The suite's own manners: strict expectations, prerequisites, declarations, pytest and what works without it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from goembed_core.errors import UserError
from goembed_core.shapes import require_views
from goembed_core.testing import (
    ConformanceError,
    Examination,
    ForwardModelTraits,
    check_forward_model,
    parametrize_forward_model,
)
from torch import Tensor


class Scale(NamedTuple):
    factor: Tensor  # (B, V)


class Scaled:
    """`O = factor · S`, which is no module."""

    def __call__(self, signal, params):
        if signal.dim() != 2:
            raise UserError(f"signal {tuple(signal.shape)}, expected (B, 3)")
        require_views(params, len(signal), factor=())
        return signal[:, None] * params.factor[..., None]

    def example(self, batch_size, generator):
        factor = torch.rand(batch_size, 2, generator=generator) + 0.5
        return torch.randn(batch_size, 3, generator=generator), Scale(factor)


class Rounded(Scaled):
    def __call__(self, signal, params):
        return super().__call__(signal.round(), params)


class Promising(Scaled):
    conformance = ForwardModelTraits(compiles=True, vmaps=True)


class ReadingBack(Scaled):
    conformance = ForwardModelTraits(compiles=True, vmaps=True, expected_failures={"device": "reads a value back"})

    def __call__(self, signal, params):
        return super().__call__(signal, params) * (1.0 if float(params.factor.sum()) > 0 else 2.0)


@parametrize_forward_model(Scaled, oracle=lambda model, signal, params: torch.einsum("bi,bv->bvi", *[signal, *params]))
def test_conforms(check):
    check()


@parametrize_forward_model(Rounded, expected_failures={"gradient": "rounding is a step"})
def test_an_expected_failure(check):
    check()


def by_name(factory, **options):
    return {result.name: result for result in Examination("forward-model", factory, **options).results()}


def test_results_are_complete():
    results = check_forward_model(Scaled)
    assert [result.name for result in results] == Examination("forward-model", Scaled).names
    assert {result.status for result in results} == {"passed", "skipped"}
    assert all(result.law and (result.message or result.status == "passed") for result in results)


def test_a_failure_is_raised_with_all_results():
    with pytest.raises(ConformanceError, match="1 of 30 checks failed\ngradient\n  law: ") as caught:
        check_forward_model(Rounded)
    assert len(caught.value.results) == 30


def test_an_expected_failure_that_holds_is_a_failure():
    found = by_name(Scaled, expected_failures={"gradient": "it was wrong once"})["gradient"]
    assert found.status == "failed"
    assert "it holds, though expected_failures says that it does not: 'it was wrong once'" in found.message


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"gradent": "x"}, "names 'gradent', which is no check; did you mean 'gradient'"),
        ({"gradient": " "}, r"expected_failures\['gradient'\]=' ': expected the reason"),
    ],
)
def test_expectations_are_checked_at_once(expected, message):
    with pytest.raises(UserError, match=message):
        parametrize_forward_model(Scaled, expected_failures=expected)
    traits = ForwardModelTraits(expected_failures=expected)
    with pytest.raises(UserError, match=message):
        Examination("forward-model", Scaled, traits=traits).results()


def test_unusable_arguments_are_refused():
    with pytest.raises(UserError, match="there are no checks for kind 'task'"):
        Examination("task", Scaled)
    with pytest.raises(UserError, match="expected a function that builds the forward model"):
        Examination("forward-model", 3)
    with pytest.raises(UserError, match="expected a ForwardModelTraits"):
        Examination("forward-model", Scaled, traits={})


def test_what_is_declared_is_checked():
    found = by_name(Promising)
    assert (found["compiles"].status, found["vmaps"].status) == ("passed", "passed")
    found = by_name(ReadingBack)
    assert (found["compiles"].status, found["vmaps"].status) == ("failed", "failed")
    assert found["device"].status == "expected"
    assert found["device"].message.startswith("reads a value back\ndevice\n  law: ")


def test_leaves_are_declared_by_name():
    rounded = ForwardModelTraits(not_differentiable=("signal",))
    assert by_name(Rounded, traits=rounded)["gradient"].status == "skipped"
    found = by_name(Scaled, traits=rounded)["gradient"]
    assert "signal is declared not_differentiable, but its gradient is not zero" in found.message
    found = by_name(Scaled, traits=ForwardModelTraits(ignored_params=("width",)))
    assert "ignored_params names width; the leaves are factor" in found["example"].message
    assert {result.status for name, result in found.items() if name not in ("builds", "example")} == {"skipped"}
    assert found["gradient"].message == "needs example, which does not hold"


def test_nothing_global_is_changed():
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    Examination("forward-model", Scaled).results()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    assert torch.is_grad_enabled()


def test_works_without_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None; import goembed_core.testing as t; "
        "print([r.status for r in t.Examination('dataset', list).results()][:2])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['passed', 'failed']\n"


@pytest.mark.parametrize(
    ("leaves", "shapes", "message"),
    [
        (Scale(torch.zeros(2)), {}, r"'factor' of shape \(2,\), expected \(2, views, ...\): one per signal and view"),
        (Scale(torch.zeros(1, 4)), {}, r"'factor' of shape \(1, 4\), expected \(2, views, ...\)"),
        (Scale(torch.zeros(2, 4, 3)), {"factor": ()}, r"\(2, 4, 3\), expected \(2, views\)"),
        ((torch.zeros(2, 4), torch.zeros(2, 5)), {}, r"'1' of shape \(2, 5\), expected \(2, 4, ...\)"),
    ],
)
def test_views_of_another_shape_are_refused(leaves, shapes, message):
    with pytest.raises(UserError, match=message):
        require_views(leaves, 2, **shapes)


def test_views_are_counted():
    assert require_views(Scale(torch.zeros(2, 4)), 2, factor=()) == 4
    assert require_views((), 2) == 0


def test_the_readme_lists_each_law():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    names = {
        name
        for kind in ("forward-model", "encoder", "dataset", "radiance-field")
        for name in Examination(kind, list).names
    }
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
