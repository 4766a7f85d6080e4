"""Each wheel, and all of them, in an environment that has what they declare and nothing else; their tests there."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLACES = {
    tomllib.loads(path.read_text())["project"]["name"]: path.parent.relative_to(ROOT)
    for path in sorted(ROOT.glob("packages/**/pyproject.toml"))
}
PROJECTS = {
    name: tomllib.loads((ROOT / place / "pyproject.toml").read_text())["project"] for name, place in PLACES.items()
}
# lpips declares torchvision, which core has no use for and the workspace overrides.
UNUSED = "The package `lpips` requires `torchvision>=0.2.1`, but it's not installed"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv, to build wheels and environments"),
]

IMPORT_ALL = """
import importlib, json, pkgutil, sys
names = []
for top in sys.argv[1:]:
    package = importlib.import_module(top)
    names += [top] + [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps(names))
"""

INSTALLED = "import importlib.metadata, json; print(json.dumps([d.name for d in importlib.metadata.distributions()]))"


def needed(*names: str) -> list[str]:
    """Packages, and those of the workspace that they need."""
    found = set(names)
    for name in names:
        requirements = [Requirement(line).name for line in PROJECTS[name]["dependencies"]]
        found |= set(needed(*[other for other in requirements if other in PROJECTS and other != name]))
    return sorted(found)


def test_there_is_a_wheel_of_each_package(wheels):
    assert wheels.keys() == PROJECTS.keys()
    for name, wheel in wheels.items():
        assert wheel.name.split("-")[1] == PROJECTS[name]["version"]


@pytest.mark.parametrize("names", [*([name] for name in PROJECTS), list(PROJECTS)], ids=[*PROJECTS, "all"])
def test_wheels_work_by_themselves(names, wheels, checkout, clean):
    present = needed(*names)
    if clean.python.exists():  # one environment for all, emptied in between
        clean.run("uv", "venv", "--quiet", "--clear", "--python", "3.11", clean.folder / "env")
    clean.install(*[wheels[name] for name in present])

    modules = json.loads(
        clean.run(clean.python, "-W", "error", "-c", IMPORT_ALL, *[n.replace("-", "_") for n in names])
    )
    assert len(modules) >= 2 * len(names)
    listed = json.loads(clean.run(clean.goembed, "plugins", "--json"))
    plugins = {name for name in present if "entry-points" in PROJECTS[name]}
    assert {record["distribution"] for record in listed} == plugins
    assert [record["reason"] for record in listed if record["status"] != "ok"] == []
    installed = json.loads(clean.run(clean.python, "-c", INSTALLED))
    assert sorted(set(installed) & PROJECTS.keys()) == present
    conflicts = clean.run("uv", "pip", "check", "--python", clean.python, status=1).splitlines()
    assert [line for line in conflicts if line.startswith("The package")] == [UNUSED]
    told = json.loads(clean.run(clean.goembed, "doctor", "--json"))
    assert [f for f in told["findings"] if f["status"] == "failed"] == []

    clean.install(*WORKSPACE["dependency-groups"]["dev"])
    tests = [checkout / PLACES[name] / "tests" for name in names]
    output = clean.run(clean.python, "-m", "pytest", "-q", "-c", checkout / "pyproject.toml", *tests)
    assert re.search(r"\d+ passed", output) and " failed" not in output
