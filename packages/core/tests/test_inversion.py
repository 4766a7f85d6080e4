"""Inversion against cases with a known minimum."""

from __future__ import annotations

import pytest
import torch
from goembed_core.config.solvers import Stage
from goembed_core.inversion import InversionStep, invert

TARGET = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]])


def quadratic(variables):
    return {"data": (variables["x"] - TARGET[: len(variables["x"])]).square().sum(1)}


def test_finds_the_minimum_of_every_item():
    found = invert({"x": torch.zeros(3, 2)}, quadratic, [Stage(steps=400, lr=0.05)])
    assert torch.allclose(found.variables["x"], TARGET, atol=1e-2)
    assert found.loss.max() < 1e-3
    assert found.history["data"].shape == (401, 3)
    assert found.history["data"][0].tolist() == TARGET.square().sum(1).tolist()


def test_items_are_independent():
    stages = [Stage(steps=20, lr=0.1)]
    together = invert({"x": torch.zeros(3, 2)}, quadratic, stages).variables["x"]
    alone = invert({"x": torch.zeros(1, 2)}, quadratic, stages).variables["x"]
    assert torch.equal(together[:1], alone)


def test_never_ends_worse_than_it_began():
    start = TARGET.clone()
    found = invert({"x": start}, quadratic, [Stage(steps=5, lr=10.0)])
    assert torch.equal(found.variables["x"], start) and found.loss.eq(0).all()


def test_stages_move_their_own_variables_under_their_own_weights():
    def losses(v):
        return {"x": (v["x"] - 1).square().sum(1), "y": (v["y"] - v["x"]).square().sum(1)}

    stages = [
        Stage(steps=300, lr=0.05, variables=("x",), weights={"y": 0.0}),
        Stage(steps=300, lr=0.05, variables=("y",)),
    ]
    seen: list[InversionStep] = []
    found = invert({"x": torch.zeros(1, 1), "y": torch.full((1, 1), 5.0)}, losses, stages, seen.append)
    assert all(step.variables["y"] == 5.0 for step in seen if step.stage == 0)
    assert found.variables["x"].item() == pytest.approx(1, abs=0.01)
    assert found.variables["y"].item() == pytest.approx(found.variables["x"].item(), abs=0.01)
    second = [step.variables["x"].item() for step in seen if step.stage == 1]
    assert len(set(second)) == 1


def test_start_values_and_gradients_outside_are_untouched():
    start, weight = torch.zeros(2, 2), torch.ones(1, requires_grad=True)
    with torch.no_grad():
        invert({"x": start}, lambda v: {"a": (v["x"] - weight).square().sum(1)}, [Stage(steps=3)])
    assert torch.equal(start, torch.zeros(2, 2)) and not start.requires_grad and weight.grad is None


def test_unknown_variable_is_named():
    with pytest.raises(ValueError, match=r"stage moves \['z'\], but the variables are \['x'\]"):
        invert({"x": torch.zeros(1, 2)}, quadratic, [Stage(variables=("z",))])
