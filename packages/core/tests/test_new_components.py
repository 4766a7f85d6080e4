"""What `goembed new` writes obeys the laws of its kind from the first second, and its README's example is true."""

import contextlib
import importlib
import io
import re
import sys

import pytest
from goembed_core import plugins, testing
from goembed_core.scaffold import new_package

COMPONENTS = {
    "forward-model": ("model", testing.check_forward_model),
    "encoder": ("model", testing.check_encoder),
    "denoiser": ("model", testing.check_denoiser),
    "dataset": ("data", testing.check_dataset),
    "radiance-field": ("model", testing.check_radiance_field),
}
SETTINGS = {"radiance-field": {"box": {}}}
EXPECTED = {"radiance-field": {"device"}}  # which `BoxedField` says of itself


@pytest.fixture(params=COMPONENTS)
def fresh(request, tmp_path, monkeypatch):
    """The kind and the folder of a new package, which can be imported."""
    folder = new_package(request.param, "fresh-one", tmp_path).folder
    monkeypatch.syspath_prepend(folder / "src")
    yield request.param, folder
    for name in [name for name in sys.modules if name.startswith("goembed_fresh_one")]:
        del sys.modules[name]


def test_it_obeys_every_law(fresh):
    kind, _ = fresh
    module, check = COMPONENTS[kind]
    target = importlib.import_module(f"goembed_fresh_one.{module}").FreshOne
    config = importlib.import_module("goembed_fresh_one.plugin").FreshOneConfig
    settings = config(**SETTINGS.get(kind, {}))
    results = check(lambda: target(settings))  # raises with all that is broken
    assert {result.name for result in results if result.status not in ("passed", "skipped")} <= EXPECTED.get(
        kind, set()
    )
    assert sum(result.status == "passed" for result in results) >= 12


def test_its_example_is_true(fresh, monkeypatch):
    _, folder = fresh
    host = plugins.PluginHost([])
    host.register_module(importlib.import_module("goembed_fresh_one.plugin"), "fresh-one")
    monkeypatch.setattr(plugins, "host", lambda: host)
    (example,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example, {})
    assert f"# {printed.getvalue()}" in example
