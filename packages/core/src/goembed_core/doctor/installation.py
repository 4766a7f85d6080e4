"""Python, plugins, and whether the installed versions are those that packages ask for."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from goembed_core.doctor.finding import Finding
from goembed_core.plugins import host

# What packages declare and goembed does not touch: lpips wants it for network definitions that are not used here.
UNUSED = {("lpips", "torchvision")}


def check_python() -> Iterator[Finding]:
    """The interpreter against what core asks for."""
    wanted = importlib.metadata.metadata("goembed-core")["Requires-Python"] or ""
    found = platform.python_version()
    fits = SpecifierSet(wanted).contains(found, prereleases=True)
    remedy = "" if fits else f"make an environment of Python {wanted}: uv venv --python 3.11"
    yield Finding("python", "ok" if fits else "failed", f"{found}, {wanted} is wanted", remedy)


def check_plugins() -> Iterator[Finding]:
    """What became of every plugin."""
    status = {"ok": "ok", "blocked": "skipped"}
    for record in host().records:
        detail = f"{record}" + (f": {record.reason}" if record.reason else f", {len(record.provides)} components")
        yield Finding(f"plugin {record.name}", status.get(record.status, "failed"), detail, record.remedy)


def check_versions() -> Iterator[Finding]:
    """Everything that core and the plugins need, directly or not: is it there, in a version that fits?"""
    found = list(conflicts(roots()))
    yield from found
    if not found:
        yield Finding("versions", "ok", "all requirements of core and plugins are met")


def roots() -> list[str]:
    """The distributions that goembed is made of in this environment."""
    return sorted({"goembed-core", *(record.distribution for record in host().records if record.distribution)})


def conflicts(names: list[str]) -> Iterator[Finding]:
    """What the named distributions, and all that they need, ask for in vain."""
    waiting, seen = [(name, frozenset()) for name in names], set()
    while waiting:
        name, extras = waiting.pop(0)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # which was found already, where it was asked for
        for requirement in _requirements(distribution, extras):
            waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
            finding = _unmet(distribution, requirement)
            if finding and (canonicalize_name(name), canonicalize_name(requirement.name)) not in UNUSED:
                yield finding


def _requirements(distribution: importlib.metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in distribution.requires or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement


def _unmet(distribution: importlib.metadata.Distribution, requirement: Requirement) -> Finding | None:
    wanted = f"{requirement.name}{requirement.specifier}"
    asks = f"{distribution.name} {distribution.version} wants {wanted}"
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", "failed", f"{asks}, which is not installed", f"uv pip install '{wanted}'")
    if requirement.specifier.contains(found, prereleases=True):
        return None
    remedy = f"uv pip install '{wanted}', or another version of {distribution.name}"
    return Finding("versions", "failed", f"{asks}, found {found}", remedy)
