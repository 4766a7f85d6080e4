"""Each wheel in an environment that has what it declares, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
UV = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
PROJECTS = {
    project["name"]: project
    for path in sorted(ROOT.glob("packages/**/pyproject.toml"))
    for project in [tomllib.loads(path.read_text())["project"]]
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv, to build wheels and environments"),
]

IMPORT_ALL = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps(names))
"""


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """A command's output; pip's own list of wheel folders holds for uv as well."""
    links = os.environ.get("UV_FIND_LINKS") or ",".join(os.environ.get("PIP_FIND_LINKS", "").split())
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment | {"UV_FIND_LINKS": links}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def needed(name: str) -> set[str]:
    """A package and those of the workspace that it needs."""
    found = {name}
    for line in PROJECTS[name]["dependencies"]:
        if Requirement(line).name in PROJECTS:
            found |= needed(Requirement(line).name)
    return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """The wheel of each package, built from a copy without caches and locks."""
    folder = tmp_path_factory.mktemp("wheels")
    ignore = shutil.ignore_patterns(".venv", ".git", "uv.lock", "runs", "dist", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder / "copy", ignore=ignore)
    run("uv", "build", "--all-packages", "--wheel", "--out-dir", folder / "dist", folder=folder / "copy")
    found = {path.name.split("-")[0].replace("_", "-"): path for path in (folder / "dist").glob("*.whl")}
    assert found.keys() == PROJECTS.keys()
    return found


@pytest.mark.parametrize("name", PROJECTS)
def test_a_wheel_works_by_itself(name, wheels, tmp_path):
    pins, overrides = tmp_path / "pins.txt", tmp_path / "overrides.txt"
    pins.write_text("\n".join(UV["constraint-dependencies"]))
    overrides.write_text("\n".join(UV["override-dependencies"]))
    run("uv", "venv", "--python", "3.11", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    install = ["uv", "pip", "install", "--python", python, "--constraints", pins, "--overrides", overrides]
    run(*install, *[wheels[other] for other in sorted(needed(name))])
    modules = json.loads(run(python, "-W", "error", "-c", IMPORT_ALL, name.replace("-", "_"), folder=tmp_path))
    assert modules
    listed = json.loads(run(tmp_path / "env" / "bin" / "goembed", "plugins", "--json", folder=tmp_path))
    plugins = {other for other in needed(name) if "entry-points" in PROJECTS[other]}
    assert {record["distribution"] for record in listed} == plugins
    assert [record["reason"] for record in listed if record["status"] != "ok"] == []
    installed = run("uv", "pip", "list", "--python", python)
    assert [other for other in PROJECTS if other in installed.split()] == [o for o in PROJECTS if o in needed(name)]
