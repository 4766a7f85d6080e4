"""Templates to a package: rendered in memory, checked, then written as a whole or not at all."""

from __future__ import annotations

import importlib.metadata
import json
import os
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from string import Template
from typing import NamedTuple

from packaging.requirements import Requirement

from goembed_core.errors import UserError, did_you_mean
from goembed_core.files import new_directory
from goembed_core.scaffold.names import Names, check_name, require_distinct

# What is written for each kind, and where it goes inside of the workspace.
KINDS = {
    "forward-model": "Images under Gaussian blurs of several widths",
    "encoder": "Features of every pixel, averaged over the views",
    "denoiser": "Residual convolutions over all views as channels",
    "dataset": "Discs, each seen under random shifts",
    "radiance-field": "Gaussians of one colour each in the box of a scene",
    "task": "Images of discs that explain one observation of them",
}
GROUPS = {kind: f"packages/{kind}s" for kind in KINDS}
DEPENDENCIES = ("pydantic", "torch")  # of every template, beside core
FURTHER = {"task": ("matplotlib",)}
PACKAGES = {"radiance-field": ("goembed-nerf-renderer",)}  # of goembed's own, beside core


class Created(NamedTuple):
    """A new package, and what to do next, a line each."""

    folder: Path
    next_steps: list[str]


class Place(NamedTuple):
    """Where a package goes; `workspace` is the root of the workspace that it becomes a member of, if it does."""

    folder: Path
    workspace: Path | None


def new_package(kind: str, name: str, where: Path | None = None) -> Created:
    """Write a working package for a plugin.

    **Arguments:**
    - `kind`: forward-model, encoder, denoiser, dataset, radiance-field or task.
    - `name`: of the component, lower-case words joined by '-'; the package is called `goembed-NAME`.
    - `where`: a folder; inside of the goembed workspace the package goes to the place of its kind, else into `where`.

    **Raises:** UserError, before anything is written.
    """
    if kind not in KINDS:
        raise UserError(f"KIND={kind!r} is not one of {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")
    names = check_name(kind, name)
    place = _place(names, (where or Path.cwd()).resolve())
    if place.folder.exists():
        raise UserError(f"{_shown(place.folder)} exists; choose another name, or remove it")
    rendered = dict(_render(names, _values(names, place)))
    for path, text in rendered.items():
        if path.suffix == ".py":
            require_distinct(names, text)
    try:
        with new_directory(place.folder) as incomplete:
            for path, text in rendered.items():
                (incomplete / path).parent.mkdir(parents=True, exist_ok=True)
                (incomplete / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{_shown(place.folder)} cannot be written: {error.strerror or error}") from None
    return Created(place.folder, _next_steps(names, place))


def _place(names: Names, where: Path) -> Place:
    for root in (where, *where.parents):
        if _is_workspace(root):
            return Place(root / GROUPS[names.kind] / names.name, root)
    return Place(where / names.distribution, None)


def _is_workspace(folder: Path) -> bool:
    """The root of a workspace with goembed-core in it."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        core = tomllib.loads((folder / "packages/core/pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (
        "workspace" in project.get("tool", {}).get("uv", {}) and core.get("project", {}).get("name") == "goembed-core"
    )


def _values(names: Names, place: Place) -> dict[str, str]:
    """What the templates' `$words` stand for."""
    core = importlib.metadata.distribution("goembed-core")
    ranges = {r.name: r for r in map(Requirement, core.requires or []) if r.marker is None}
    needed = sorted(str(ranges[name]) for name in (*DEPENDENCIES, *FURTHER.get(names.kind, ())))
    dependencies = [*map(_range, _own_packages(names)), *needed]
    return {
        "name": names.name,
        "component": names.component,
        "distribution": names.distribution,
        "module": names.module,
        "Class": names.class_name,
        "title": names.title,
        "summary": KINDS[names.kind],
        "python": core.metadata["Requires-Python"],
        "dependencies": ", ".join(json.dumps(dependency) for dependency in dependencies),
        "license": 'license = "Apache-2.0"\n' if place.workspace else "",
        "alone": "" if place.workspace else _alone(names, place.folder),
    }


def _own_packages(names: Names) -> tuple[str, ...]:
    """The packages of goembed that a plugin of this kind needs."""
    return ("goembed-core", *PACKAGES.get(names.kind, ()))


def _range(distribution: str) -> str:
    """A package of goembed in the series that is installed; in that of core, where it is not."""
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        version = importlib.metadata.version("goembed-core")
    major, minor = version.split(".")[:2]
    return f"{distribution}>={major}.{minor},<{major}.{int(minor) + 1}"


def _alone(names: Names, folder: Path) -> str:
    """What a package needs that no workspace provides: pytest, and where unpublished packages are found."""
    text = '\n[dependency-groups]\ndev = ["pytest>=8"]\n'
    sources = {name: _source(name, folder) for name in _own_packages(names)}
    lines = [f"{name} = {{ {source} }}\n" for name, source in sources.items() if source]
    return text + "".join(["\n[tool.uv.sources]\n", *lines]) if lines else text


def _source(distribution: str, folder: Path) -> str:
    """Where an installed package came from, when that is a folder or a file; one from an index needs no saying."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
    record = json.loads(found.read_text("direct_url.json") or "{}")
    address = urllib.parse.urlsplit(record.get("url", ""))
    if address.scheme != "file":
        return ""
    path = Path(urllib.request.url2pathname(address.path))
    if not path.exists():
        return ""
    try:
        shown = PurePosixPath(Path(os.path.relpath(path, folder)).as_posix())
    except ValueError:  # on another drive
        shown = PurePosixPath(path.as_posix())
    return f"path = {json.dumps(str(shown))}" + (", editable = true" if path.is_dir() else "")


def _render(names: Names, values: dict[str, str]) -> Iterator[tuple[Path, str]]:
    """The files of the package by their path in it."""
    for part in ("common", names.kind):
        root = files("goembed_core.scaffold") / "templates" / part
        for path, source in _walk(root, PurePosixPath()):
            target = Path(*(values["module"] if step == "module" else step for step in path.parts)).with_suffix("")
            text = Template(source.read_text(encoding="utf-8")).substitute(values)
            yield target, text.rstrip() + "\n"


def _walk(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry, path / entry.name)
        elif entry.name.endswith(".tmpl"):
            yield path / entry.name, entry


def _next_steps(names: Names, place: Place) -> list[str]:
    train = f"goembed train task={names.component}"
    settings = " box={}" if names.kind == "radiance-field" else ""
    check = train if names.kind == "task" else f"goembed check {names.kind} {names.component}{settings}"
    if place.workspace is None:
        return [
            f"uv pip install -e {_shown(place.folder)}",
            f"python -m pytest {_shown(place.folder)}",
            check,
        ]
    member = place.folder.relative_to(place.workspace).as_posix()
    return [
        f"add to [tool.uv.sources] of pyproject.toml: {names.distribution} = {{ workspace = true }}",
        "add to the packages of README.md: "
        f"| [{names.distribution}]({member}) | `{names.kind}:{names.component}` | {KINDS[names.kind]} |",
        f"uv run pytest {member}",
        f"uv run {check}",
    ]


def _shown(path: Path) -> str:
    """A path as the user would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
