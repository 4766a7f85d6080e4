"""Settings: what is refused, and that reading them imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest
from goembed_core.errors import UserError
from goembed_core.plugins import build, host
from goembed_stylegan_synth.synthesis import StyleGANSynthesis


def test_settings_and_plugin_do_not_import_torch():
    code = "import goembed_stylegan_synth.config, goembed_stylegan_synth.plugin, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_everything_is_registered():
    provided = next(record.provides for record in host().records if record.name == "stylegan-synth")
    assert set(provided) == {"forward-model:stylegan", "task:stylegan2", "converter:stylegan2"}


def test_the_forward_model_is_built_from_plain_settings(weights):
    model = build("forward-model", "stylegan", {"weights": weights, "resolution": 8, "noise": "none"})
    assert isinstance(model, StyleGANSynthesis) and model.resolution == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "random"}, r"stylegan.noise='random': .*'const' or 'none'"),
        ({"resolution": 24}, "stylegan.resolution=24: expected a power of two from 8 to 1024"),
        ({"truncation": 1}, "there is no such key; did you mean stylegan.truncation_psi"),
        ({"truncation_psi": 1.5}, "truncation_psi=1.5"),
        ({"weights": ""}, "stylegan.weights=''"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        build("forward-model", "stylegan", settings)
