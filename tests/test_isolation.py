"""Broken plugins in a real environment of wheels: the host lives, the others work, the message says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv, to build wheels and environments"),
]

HOOK = "from goembed_core.plugins import hookimpl\n\n@hookimpl\ndef {name}({argument}): ...\n"
FINE = HOOK.format(name="goembed_register", argument="register")


class Fault(NamedTuple):
    """One way to be broken, and what the host says of it."""

    source: str
    status: str
    cause: str
    remedy: str
    requires: str = "goembed-core>=0.1,<0.2"
    plugin: str = "broken"


UPDATE = "update or reinstall it: uv pip install --reinstall goembed-{name}, or leave it out: GOEMBED_DISABLE_PLUGINS="
WRITE = "its authors have to write the hook as goembed_register(register); update it, or leave it out"
FAULTS = {
    "raises": Fault(
        "raise OSError('libphysics.so: no such file')", "failed", "OSError: libphysics.so: no such", UPDATE
    ),
    "signature": Fault(
        HOOK.format(name="goembed_register", argument="registry"), "failed", "Argument(s) {'registry'}", WRITE
    ),
    "misspelt": Fault(
        HOOK.format(name="goembed_registr", argument="register"), "failed", "unknown hook 'goembed_registr'", WRITE
    ),
    "same-name": Fault(
        FINE,
        "duplicate",
        "plugin name 'blur' is claimed by goembed-blur 0.1.0 and by goembed-same-name 3.2.1",
        "uninstall one, or set GOEMBED_DISABLE_PLUGINS to one of the distributions",
        plugin="blur",
    ),
    "other-core": Fault(
        FINE,
        "failed",
        "goembed-other-core 3.2.1 wants goembed-core<10,>=9, found 0.",
        "install versions that agree: uv pip install --upgrade goembed-core goembed-other-core",
        requires="goembed-core>=9,<10",
    ),
}

PYPROJECT = """
[project]
name = "goembed-{name}"
version = "3.2.1"
requires-python = ">=3.11"
dependencies = ["{requires}"]

[project.entry-points.goembed]
{plugin} = "goembed_{module}.plugin"

[build-system]
requires = ["uv_build>=0.9,<0.14"]
build-backend = "uv_build"
"""

USE = """
import torch
from goembed_core import build
model = build("forward-model", "sharp")
signal, params = model.example(2, torch.Generator().manual_seed(0))
signal.requires_grad_()
model(signal, params).sum().backward()
print(float(signal.grad.sum()))
"""

SAVE = """
from pathlib import Path
from goembed_core.plugins import build, host
from goembed_core.pretrained import Part, save_pretrained
config = host().get("forward-model", "sharp").load_config()()
save_pretrained(Path("model"), {"lens": Part("forward-model", "sharp", config, build("forward-model", "sharp"))})
"""

LOAD = """
from goembed_core.errors import UserError
from goembed_core.pretrained import from_pretrained
try:
    from_pretrained("model")
except UserError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def broken(clean) -> dict[str, Path]:
    """The wheel of each broken plugin."""
    for name, fault in FAULTS.items():
        module = name.replace("-", "_")
        source = clean.folder / name / "src" / f"goembed_{module}"
        source.mkdir(parents=True)
        (source / "__init__.py").touch()
        (source / "plugin.py").write_text(fault.source)
        plugin = name if fault.plugin == "broken" else fault.plugin
        text = PYPROJECT.format(name=name, requires=fault.requires, plugin=plugin, module=module)
        (clean.folder / name / "pyproject.toml").write_text(text)
        clean.run("uv", "build", "--quiet", "--wheel", "--out-dir", "dist", name)
    return {name: clean.folder / "dist" / f"goembed_{name.replace('-', '_')}-3.2.1-py3-none-any.whl" for name in FAULTS}


@pytest.fixture(scope="module")
def host(clean, wheels):
    """An environment with core and two working plugins, from wheels."""
    clean.install(wheels["goembed-core"])
    for name in ("blur", "sharp"):
        clean.run(clean.goembed, "new", "forward-model", name)
        clean.run("uv", "build", "--quiet", "--wheel", "--out-dir", "dist", f"goembed-{name}")
        clean.install_alone(clean.folder / "dist" / f"goembed_{name}-0.1.0-py3-none-any.whl")
    return clean


def records(clean, **environment: str) -> dict[str, dict]:
    """What `goembed plugins` says, by distribution."""
    listed = json.loads(clean.run(clean.goembed, "plugins", "--json", **environment))
    return {record["distribution"]: record for record in listed}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_plugin_takes_nobody_down(name, host, broken):
    fault, plugin = FAULTS[name], name if FAULTS[name].plugin == "broken" else FAULTS[name].plugin
    distribution, remedy = f"goembed-{name}", fault.remedy.format(name=name)
    host.install_alone(broken[name])
    try:
        found = records(host)
        assert (found[distribution]["name"], found[distribution]["status"]) == (plugin, fault.status)
        assert found[distribution]["version"] == "3.2.1"
        assert fault.cause in found[distribution]["reason"]
        assert remedy in found[distribution]["remedy"]
        assert found["goembed-sharp"]["provides"] == ["forward-model:sharp"]
        assert found["goembed-core"]["status"] == "ok"
        assert found["goembed-blur"]["status"] == ("duplicate" if plugin == "blur" else "ok")

        text = host.run(host.goembed, "plugins")
        assert f"{plugin}  ({distribution} 3.2.1)  {fault.status}: " in text and f"\n    -> {remedy}" in text
        assert "    forward-model:sharp" in text

        wanted = host.run(host.goembed, "train", "task=none", status=2)
        assert wanted.startswith("error: task 'none' is not registered; ")
        assert f"plugin {plugin!r} ({distribution} 3.2.1) {fault.status}: " in wanted
        assert fault.cause in wanted and remedy in wanted

        strict = host.run(host.goembed, "plugins", status=2, GOEMBED_STRICT_PLUGINS="1")
        assert strict.startswith("error: plugin ") and strict.count("\n") == 1
        assert fault.cause in strict and remedy in strict

        for disabled in {distribution, plugin} if plugin != "blur" else {distribution}:
            off = {"GOEMBED_DISABLE_PLUGINS": disabled, "GOEMBED_STRICT_PLUGINS": "1"}
            found = records(host, **off)
            assert found[distribution]["status"] == "blocked"
            assert {found[f"goembed-{other}"]["status"] for other in ("core", "blur", "sharp")} == {"ok"}
    finally:
        host.uninstall(distribution)
    assert distribution not in records(host)


def test_all_faults_at_once(host, broken):
    host.install_alone(*broken.values())
    try:
        assert float(host.run(host.python, "-W", "error", "-c", USE)) != 0
        told = json.loads(host.run(host.goembed, "doctor", "--json", status=1))
        failed = {finding["name"] for finding in told["findings"] if finding["status"] == "failed"}
        assert failed == {
            "plugin raises",
            "plugin signature",
            "plugin misspelt",
            "plugin blur",
            "plugin other-core",
            "versions",
        }
        (sharp,) = [finding for finding in told["findings"] if finding["name"] == "forward model sharp"]
        assert sharp["status"] == "ok"
    finally:
        host.uninstall(*[f"goembed-{name}" for name in FAULTS])


def test_a_plugin_that_is_missing_when_a_model_asks_for_it(host):
    host.run(host.python, "-c", SAVE)
    assert host.run(host.python, "-c", LOAD) == ""
    blocked = host.run(host.python, "-c", LOAD, GOEMBED_DISABLE_PLUGINS="sharp")
    assert "forward model 'sharp' is not registered; " in blocked
    assert "plugin 'sharp' (goembed-sharp 0.1.0) blocked: named in GOEMBED_DISABLE_PLUGINS" in blocked
    host.uninstall("goembed-sharp")
    assert host.run(host.python, "-c", LOAD) == (
        "model needs the forward model 'sharp' of goembed-sharp 0.1.0 as its lens, which is not installed: "
        "uv pip install 'goembed-sharp==0.1.*'\n"
    )
