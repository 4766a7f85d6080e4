"""Environments of their own for tests that install packages: over this one, and of wheels alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UV = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]


class Overlay:
    """A real environment that sees all that is installed in this one; what is installed into it is gone afterwards."""

    def __init__(self, folder: Path):
        self.folder = folder
        environment = folder / ".venv"
        settings = folder / "uv.toml"
        settings.write_text("[pip]\nno-deps = true\n")  # the rest is there already
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        self.environment = kept | {
            "VIRTUAL_ENV": str(environment),
            "UV_CONFIG_FILE": str(settings),
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        self.run("uv", "venv", "--quiet", "--python", sys.executable, str(environment))
        (site,) = environment.glob("lib/python*/site-packages")
        below = sysconfig.get_paths()["purelib"]
        (site / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n")
        self.run("uv", "pip", "install", "--quiet", "-e", str(ROOT / "packages/core"))  # for its command

    def run(self, *command: str, status: int = 0) -> str:
        """A command's output, errors too, once its exit status is as expected."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == status, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout


class Clean:
    """An environment of wheels and what they declare, in the pinned versions, and nothing else."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "env" / "bin" / "python"
        self.goembed = folder / "env" / "bin" / "goembed"
        pins, overrides = folder / "pins.txt", folder / "overrides.txt"
        pins.write_text("\n".join(UV["constraint-dependencies"]))
        overrides.write_text("\n".join(UV["override-dependencies"]))
        self.pinned = ("--constraints", pins, "--overrides", overrides)
        self.run("uv", "venv", "--quiet", "--python", "3.11", folder / "env")

    def install(self, *wanted: str | Path) -> None:
        """Install wheels or packages and what they need."""
        self.run("uv", "pip", "install", "--quiet", "--python", self.python, *self.pinned, *wanted)

    def install_alone(self, *wheels: Path) -> None:
        """Install wheels whatever they ask for."""
        self.run("uv", "pip", "install", "--quiet", "--python", self.python, "--no-deps", *wheels)

    def uninstall(self, *names: str) -> None:
        """Remove packages."""
        self.run("uv", "pip", "uninstall", "--quiet", "--python", self.python, *names)

    def run(self, *command: str | Path, status: int = 0, **environment: str) -> str:
        """A command's output, errors too, once its exit status is as expected."""
        return run(*command, folder=self.folder, status=status, **environment)


def run(*command: str | Path, folder: Path = ROOT, status: int = 0, **environment: str) -> str:
    """A command's output, errors too; pip's own list of wheel folders holds for uv as well."""
    links = os.environ.get("UV_FIND_LINKS") or ",".join(os.environ.get("PIP_FIND_LINKS", "").split())
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=kept | {"UV_FIND_LINKS": links, "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == status, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """A copy of the workspace without caches and locks."""
    folder = tmp_path_factory.mktemp("checkout") / "copy"
    ignore = shutil.ignore_patterns(".venv", ".git", "uv.lock", "runs", "dist", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


@pytest.fixture(scope="session")
def wheels(checkout) -> dict[str, Path]:
    """The wheel of each package."""
    run("uv", "build", "--all-packages", "--wheel", "--out-dir", checkout.parent / "dist", folder=checkout)
    return {path.name.split("-")[0].replace("_", "-"): path for path in (checkout.parent / "dist").glob("*.whl")}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Clean:
    """A new environment without any package."""
    return Clean(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def overlay(tmp_path_factory) -> Overlay:
    """A new environment in an empty folder."""
    if shutil.which("uv") is None:
        pytest.skip("needs uv, to make an environment")
    return Overlay(tmp_path_factory.mktemp("overlay"))
