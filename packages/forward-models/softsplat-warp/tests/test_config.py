"""Settings: what is refused, and that reading them imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest
from goembed_core.errors import UserError
from goembed_core.plugins import build, host
from goembed_softsplat_warp.model import SoftsplatWarp


def test_settings_and_plugin_do_not_import_torch():
    code = "import goembed_softsplat_warp.config, goembed_softsplat_warp.plugin, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_everything_is_registered():
    provided = next(record.provides for record in host().records if record.name == "softsplat-warp")
    assert set(provided) == {"forward-model:softsplat-warp"}


def test_the_forward_model_is_built_from_plain_settings():
    model = build("forward-model", "softsplat-warp", {"holes": "source", "channels": 1})
    assert isinstance(model, SoftsplatWarp) and model.config.holes == "source"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"holes": "pull"}, r"softsplat-warp.holes='pull': .*'pull-push', 'source' or 'zero'"),
        ({"hole": "zero"}, "there is no such key; did you mean softsplat-warp.holes"),
        ({"full_coverage": 0}, "softsplat-warp.full_coverage=0"),
        ({"full_coverage": 1.5}, "softsplat-warp.full_coverage=1.5"),
        ({"height": 0}, "softsplat-warp.height=0"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        build("forward-model", "softsplat-warp", settings)
