"""`goembed check`: the table, the JSON, and the exit status."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from goembed_core import cli
from goembed_core.config import Config
from goembed_core.errors import UserError
from goembed_core.plugins import hookimpl, host
from goembed_core.shapes import require_views
from torch import Tensor


class Amount(NamedTuple):
    amount: Tensor  # (B, V)


class ShiftConfig(Config):
    by: float = 1.0


class Shift:
    """`O = S + by φ`."""

    def __init__(self, config):
        if config.by == 0:
            raise UserError("by=0: expected a shift")
        self.config = config

    def __call__(self, signal, params):
        if signal.dim() != 2:
            raise UserError(f"signal {tuple(signal.shape)}, expected (B, 3)")
        require_views(params, len(signal), amount=())
        return signal[:, None] + params.amount[..., None] * self.config.by

    def example(self, batch_size, generator):
        numbers = torch.randn(batch_size, 5, generator=generator)
        return numbers[:, :3], Amount(numbers[:, 3:])


class Detached(Shift):
    def __call__(self, signal, params):
        return super().__call__(signal.detach(), params)


@hookimpl
def goembed_register(register):
    for name, cls in (("shift", "Shift"), ("detached", "Detached")):
        register("forward-model", name, f"shift_plugin:{cls}", config="shift_plugin:ShiftConfig")


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both forward models, registered by hand."""
    module = types.ModuleType("shift_plugin")
    for item in (Shift, Detached, ShiftConfig, goembed_register):
        setattr(module, item.__name__, item)
    monkeypatch.setitem(sys.modules, "shift_plugin", module)
    monkeypatch.setenv("COLUMNS", "140")
    host.cache_clear()
    host().register_module(module)
    yield
    host.cache_clear()


def test_a_table_of_what_holds(capsys):
    assert cli.main(["check", "forward-model", "shift", "by=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("forward model shift (shift_plugin) by=2")
    rows = {line.split()[0]: line for line in lines if " ok " in line or " - " in line}
    assert rows["gradient"].split()[1] == "ok"
    assert "not declared (`vmaps`)" in rows["vmaps"]
    assert lines[-1] == "24 passed, 6 skipped"


def test_what_failed_is_told_below(capsys):
    assert cli.main(["check", "forward-model", "detached"]) == 1
    out = capsys.readouterr().out
    assert " FAILED " in out
    assert "what happened: no gradient arrives at signal: the output does not hang on it" in out
    assert out.splitlines()[-1] == "22 passed, 2 failed, 6 skipped"


def test_json(capsys):
    assert cli.main(["check", "forward-model", "detached", "by=2", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["name"], found["settings"]) == ("forward-model", "detached", ["by=2"])
    assert found["conforms"] is False
    assert [check["name"] for check in found["checks"] if check["status"] == "failed"] == ["gradient", "gradcheck"]
    assert set(found["checks"][0]) == {"name", "law", "status", "message", "seconds"}


def test_settings_that_it_cannot_be_built_with_are_bad_input(capsys):
    assert cli.main(["check", "forward-model", "shift", "by=0"]) == 2
    assert capsys.readouterr().err == "error: by=0: expected a shift\n"
