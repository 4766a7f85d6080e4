"""Model directories: saved and read back, and every way they can be wrong."""

from __future__ import annotations

import json
import types

import pytest
import torch
from goembed_core.config import Config
from goembed_core.errors import UserError
from goembed_core.plugins import PluginHost, hookimpl
from goembed_core.pretrained import Part, from_pretrained, save_pretrained
from torch import nn


class LineConfig(Config):
    """Sizes of a `Line`."""

    width: int = 3


class Line(nn.Module):
    """A linear layer."""

    def __init__(self, config: LineConfig):
        super().__init__()
        self.layer = nn.Linear(config.width, 2)


class Plugin:
    @hookimpl
    def goembed_register(self, register):
        register("denoiser", "line", "line_plugin:Line", config="line_plugin:LineConfig")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A saved model of one component, whose plugin is registered by hand."""
    module = types.ModuleType("line_plugin")
    module.Line, module.LineConfig = Line, LineConfig
    monkeypatch.setitem(__import__("sys").modules, "line_plugin", module)

    host = PluginHost([])
    host.register_module(Plugin(), "goembed-core")  # a distribution that is installed
    monkeypatch.setattr("goembed_core.pretrained.host", lambda: host)
    config = LineConfig(width=4)
    line = Line(config)
    save_pretrained(tmp_path / "m", {"net": Part("denoiser", "line", config, line)}, {"images_seen": 7})
    return tmp_path / "m", line


def test_round_trip(model):
    directory, line = model
    loaded = from_pretrained(directory)
    assert loaded.facts == {"images_seen": 7}
    assert torch.equal(loaded.parts["net"].layer.weight, line.layer.weight)
    assert not loaded.parts["net"].training and not loaded.parts["net"].layer.weight.requires_grad
    assert sorted(path.name for path in directory.iterdir()) == ["model.json", "net.safetensors"]


def test_half_precision_is_stored_small_and_read_as_float32(model, tmp_path):
    _, line = model
    save_pretrained(
        tmp_path / "half", {"net": Part("denoiser", "line", LineConfig(width=4), line)}, dtype=torch.float16
    )
    weight = from_pretrained(tmp_path / "half").parts["net"].layer.weight
    assert weight.dtype == torch.float32 and torch.allclose(weight, line.layer.weight, atol=1e-3)


def test_what_was_registered_by_hand_needs_no_distribution(model, tmp_path, monkeypatch):
    host = PluginHost([])
    host.register_module(Plugin(), "of a notebook")
    monkeypatch.setattr("goembed_core.pretrained.host", lambda: host)
    save_pretrained(tmp_path / "n", {"net": Part("denoiser", "line", LineConfig(), Line(LineConfig()))})
    assert from_pretrained(tmp_path / "n").parts["net"].layer.in_features == 3
    monkeypatch.setattr("goembed_core.pretrained.host", lambda: PluginHost([]))
    with pytest.raises(UserError, match="needs the denoiser 'line' of of a notebook"):
        from_pretrained(tmp_path / "n")


def edit(directory, **changes):
    manifest = json.loads((directory / "model.json").read_text())
    manifest["components"]["net"] |= {k: v for k, v in changes.items() if k != "format"}
    manifest["format"] = changes.get("format", manifest["format"])
    (directory / "model.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "has format 2; this version reads format 1"),
        (
            {"distribution": "goembed-elsewhere", "version": "0.3.1"},
            r"not installed: uv pip install 'goembed-elsewhere==0.3.\*'",
        ),
        ({"name": "curve"}, "denoiser 'curve' is not registered"),
        ({"config": {"width": 5}}, r"does not fit Line: of another shape: layer.weight \(2, 4\) instead of \(2, 5\)"),
        ({"weights": "other.safetensors"}, "other.safetensors is missing from the model directory"),
    ],
)
def test_a_wrong_manifest_is_refused_in_words(model, changes, said):
    edit(model[0], **changes)
    with pytest.raises(UserError, match=said):
        from_pretrained(model[0])


def test_damaged_files_are_named(model, tmp_path):
    path = model[0] / "net.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"net.safetensors is not a whole safetensors file"):
        from_pretrained(model[0])
    for text in (
        "{", '{"format": 1}', '{"format": 1, "components": [], "facts": {}}',
        '{"format": 1, "components": {"net": {"kind": "denoiser"}}, "facts": {}}', '{"format": 1, "components": {}}',
    ):  # fmt: skip
        (model[0] / "model.json").write_text(text)
        with pytest.raises(UserError, match=r"model.json is damaged"):
            from_pretrained(model[0])
    with pytest.raises(UserError, match=r"it has no model\.json"):
        from_pretrained(tmp_path)
    with pytest.raises(UserError, match="there is no such directory"):
        from_pretrained(tmp_path / "absent")


def test_a_hub_that_cannot_be_reached_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="model 'nobody/nothing' is no directory here and cannot be had from the hub"):
        from_pretrained("nobody/nothing")
