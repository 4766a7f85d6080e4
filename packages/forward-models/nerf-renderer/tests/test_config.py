"""Settings that cannot be used are refused in one line, before torch is imported."""

import subprocess
import sys

import pytest
from goembed_core.config import resolve_model
from goembed_core.errors import UserError
from goembed_nerf_renderer.config import RendererConfig

WRONG = {
    "near=7": "near=7.0 is not below far=6.0",
    "spacing=disparity near=0": "spacing=disparity needs near > 0, got near=0",
    "samples=0": "samples",
    "proposal_samples=[64,0]": "proposal_samples",
    'box={"low":[0,0,0],"high":[1,0,1]}': "is not below high",
    "background=grey": "'black', 'white' or 'learned'",
    "min_transmittance=1": "less than 1",
}


@pytest.mark.parametrize("settings", WRONG)
def test_what_cannot_be_used_is_refused(settings):
    with pytest.raises(UserError, match=WRONG[settings]):
        resolve_model(RendererConfig, settings.split())


def test_settings_need_no_torch():
    code = "import sys, goembed_nerf_renderer.plugin, goembed_nerf_renderer.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
