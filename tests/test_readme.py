"""The README's plugin works as it is printed."""

import re
import sys
from pathlib import Path

import pytest
import torch
from goembed_core.plugins import PluginHost

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def blur(tmp_path, monkeypatch):
    """The distribution that the README's blocks make."""
    blocks = re.findall(r"^```(?:toml|python)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for block in blocks:
        if name := re.match(r"# (goembed_blur/\w+\.py)\n", block):
            path = tmp_path / name[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block)
    info = tmp_path / "goembed_blur-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: goembed-blur\nVersion: 0.1.0\n")
    (entry_point,) = re.findall(r"^\[project.entry-points.goembed\]\n(.*)$", "\n".join(blocks), re.MULTILINE)
    (info / "entry_points.txt").write_text(f"[goembed]\n{entry_point.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("goembed_blur")]:
        del sys.modules[name]


def test_the_plugin_of_the_readme(blur):
    host = PluginHost()
    model = host.build("forward-model", "blur", {"sigma_px": 1.0})
    signal, params = model.example(2, torch.Generator().manual_seed(0))
    signal.requires_grad_()
    observation = model(signal, params)
    assert observation.shape == (2, 2, 3, 16, 16)
    constant = model(torch.ones_like(signal), params)[..., 8, 8]
    torch.testing.assert_close(constant, params.gain[..., None].expand_as(constant))  # a blur keeps the mean
    observation.sum().backward()
    assert signal.grad.abs().min() > 0


NAMES = (
    "frechet_distance", "kernel_distance", "patch_psnr", "patch_psnr_refined", "pixel_std_ratio", "class_tv",
    "seconds_per_sample", "deterministic", "unconditional", "floor", "train.images=N", "run.dir=PATH",
    "evaluate.contexts=N", "goembed plugins [--json]", "metrics.json",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_others_rely_on_is_documented(name):
    assert f"`{name}`" in (text := (ROOT / "packages/core/README.md").read_text()) or name in text
