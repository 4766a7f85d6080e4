"""The host: finds plugins by the entry-point group `goembed` and hands out what they register, importing it on use.

A plugin module registers strings, so that listing plugins and checking a configuration import neither torch nor any
model.  One broken plugin never takes the others down: it is recorded, and named when something it may have provided
is asked for.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pluggy
from packaging.requirements import InvalidRequirement, Requirement

from goembed_core.errors import PluginError, did_you_mean
from goembed_core.first_party import FIRST_PARTY
from goembed_core.hooks import GROUP, KINDS, HookSpecs, Register, hookimpl, hookspec, signatures

__all__ = [
    "GROUP",
    "KINDS",
    "Component",
    "HookSpecs",
    "PluginHost",
    "PluginRecord",
    "Register",
    "build",
    "describe",
    "get",
    "hookimpl",
    "hookspec",
    "host",
    "spoken",
]


@dataclass(frozen=True)
class Component:
    """One registered class or function, not imported before `load`."""

    kind: str
    name: str
    target: str
    plugin: str
    distribution: str
    version: str
    config: str | None = None
    summary: str = ""
    presets: str | None = None
    sample_config: str | None = None

    @property
    def qualified_name(self) -> str:
        """The name that stays unambiguous when two plugins offer the same one."""
        return f"{self.distribution}:{self.name}"

    def load(self) -> Any:
        """The class or function itself."""
        return self._import(self.target)

    def load_config(self) -> Any:
        """The component's configuration model, or None when it has no settings."""
        return self._import(self.config) if self.config else None

    def load_presets(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings of each preset; empty for a component without presets."""
        return self._import(self.presets) if self.presets else {}

    def load_sample_config(self) -> Any:
        """The model of the settings of `goembed sample`, or None."""
        return self._import(self.sample_config) if self.sample_config else None

    def _import(self, reference: str) -> Any:
        module, _, attribute = reference.partition(":")
        try:
            return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"{spoken(self.kind)} {self.name!r} of {self.distribution} {self.version} cannot be loaded from "
                f"{reference!r}: {describe(error)}"
            ) from error


@dataclass(frozen=True)
class PluginRecord:
    """What became of one plugin."""

    name: str
    distribution: str
    version: str
    status: str  # ok, failed, blocked or duplicate
    provides: tuple[str, ...] = ()  # "kind:name"
    reason: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.distribution or self.name} {self.version}".strip()

    def told(self) -> str:
        """Which plugin of which distribution and version, what became of it, why, and what to do."""
        cause = "; ".join(text for text in (self.reason, self.remedy) if text)
        return f"plugin {self.name!r} ({self}) {self.status}" + (f": {cause}" if cause else "")


class PluginHost:
    """Everything that plugins provide.

    **Arguments:**
    - `entry_points`: the plugins; those installed if not given.
    - `disabled`: plugins or distributions to leave out; `GOEMBED_DISABLE_PLUGINS=a,b` if not given.
    - `strict`: raise for a plugin that fails, rather than record it; `GOEMBED_STRICT_PLUGINS=1` if not given.
    """

    def __init__(
        self,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        *,
        disabled: Iterable[str] | None = None,
        strict: bool | None = None,
    ):
        self._disabled = set(_split(os.environ.get("GOEMBED_DISABLE_PLUGINS", "")) if disabled is None else disabled)
        self._strict = os.environ.get("GOEMBED_STRICT_PLUGINS", "") not in ("", "0") if strict is None else strict
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(HookSpecs)
        self.records: list[PluginRecord] = []
        self.components: list[Component] = []

        by_name: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for entry_point in importlib.metadata.entry_points(group=GROUP) if entry_points is None else entry_points:
            by_name.setdefault(entry_point.name, []).append(entry_point)
        for name in sorted(by_name):
            self._load(name, sorted(by_name[name], key=_distribution))

    def register_module(self, module: Any, name: str | None = None) -> PluginRecord:
        """Register a plugin by hand, for instance from a notebook; a second time under one name replaces the first."""
        name = name or getattr(module, "__name__", type(module).__name__)
        old = [record for record in self.records if record.name == name]
        if any(record.distribution for record in old):
            raise PluginError(f"plugin {name!r} is installed as {old[0]}; give register_module another name")
        if old:
            self._manager.unregister(name=name)
            self.records = [record for record in self.records if record.name != name]
            self.components = [component for component in self.components if component.plugin != name]
        record = PluginRecord(name, "", "", "ok")
        self._add(record, module)
        return self.records[-1]

    def names(self, kind: str) -> list[str]:
        """The names registered for a kind; those offered twice appear qualified, as `distribution:name`."""
        _check_kind(kind)
        found = [component for component in self.components if component.kind == kind]
        plain = [component.name for component in found]
        return sorted(c.name if plain.count(c.name) == 1 else c.qualified_name for c in found)

    def get(self, kind: str, name: str) -> Component:
        """The component of that kind and name; `name` may be qualified, `distribution:name`."""
        _check_kind(kind)
        qualifier, _, plain = name.rpartition(":")
        found = [
            component
            for component in self.components
            if component.kind == kind
            and component.name == plain
            and qualifier in ("", component.distribution, component.plugin)
        ]
        if len(found) > 1:
            choices = " or ".join(f"'{component.qualified_name}'" for component in found)
            raise PluginError(f"{spoken(kind)} {name!r} is offered by {len(found)} plugins; say {choices}")
        if not found:
            raise PluginError(self._missing(kind, name))
        return found[0]

    def build(self, kind: str, name: str, params: Any = None) -> Any:
        """`Class(config)`, where `params` is a mapping of settings or an instance of the component's own config."""
        from goembed_core.config import validate_params  # config imports this module

        component = self.get(kind, name)
        config = validate_params(component, params)
        target = component.load()
        return target() if config is None else target(config)

    def _load(self, name: str, entry_points: list[importlib.metadata.EntryPoint]) -> None:
        """Load the plugin of one name, or record why not."""
        records = [PluginRecord(name, *_distribution(entry_point), "ok") for entry_point in entry_points]
        blocked = [self._disabled & {name, record.distribution} for record in records]
        for record, by in zip(records, blocked, strict=True):
            if by:
                self._record(record, "blocked", "named in GOEMBED_DISABLE_PLUGINS")
        pairs = [(record, point) for record, point, by in zip(records, entry_points, blocked, strict=True) if not by]
        if len(pairs) > 1:
            reason = f"plugin name {name!r} is claimed by {' and by '.join(str(record) for record, _ in pairs)}"
            remedy = "uninstall one, or set GOEMBED_DISABLE_PLUGINS to one of the distributions"
            for record, _ in pairs:
                self._record(record, "duplicate", reason, remedy)
        for record, entry_point in pairs if len(pairs) == 1 else []:
            try:
                _check_core_version(record, entry_point)
                self._add(record, entry_point.load())
            # SystemExit: a module that exits when it is imported must not end the host either.
            except (Exception, SystemExit) as error:
                self._record(record, "failed", describe(error), _remedy(record, error), error)

    def _add(self, record: PluginRecord, plugin: Any) -> None:
        """Register a plugin and collect what it provides; all or nothing."""
        components: list[Component] = []
        try:
            self._manager.register(plugin, record.name)
            self._manager.check_pending()  # a misspelt hook is an error nowhere else
            if not any(impl.plugin is plugin for impl in self._manager.hook.goembed_register.get_hookimpls()):
                raise PluginError("has no goembed_register; is it missing its @hookimpl?")
            others = [other for other in self._manager.get_plugins() if other is not plugin]
            call = self._manager.subset_hook_caller("goembed_register", others)
            call(register=_Collector(record, components))
        except (Exception, SystemExit):
            # pluggy keeps a plugin whose validation failed
            if self._manager.has_plugin(record.name):
                self._manager.unregister(name=record.name)
            raise
        self.components += components
        provides = tuple(f"{component.kind}:{component.name}" for component in components)
        self.records.append(PluginRecord(record.name, record.distribution, record.version, "ok", provides))

    def _record(
        self, record: PluginRecord, status: str, reason: str, remedy: str = "", error: BaseException | None = None
    ) -> None:
        outcome = replace(record, status=status, reason=reason, remedy=remedy)
        if self._strict and status != "blocked":
            raise PluginError(outcome.told()) from error
        self.records.append(outcome)

    def _missing(self, kind: str, name: str) -> str:
        """Say what is registered, what failed, and which package would provide the name."""
        names = self.names(kind)
        known = [other for first_kind, other in FIRST_PARTY if first_kind == kind]
        text = f"{spoken(kind)} {name!r} is not registered"
        text += "" if name in known else did_you_mean(name, [*names, *known])
        text += f"; available: {', '.join(names) or 'none'}"
        elsewhere = sorted({component.kind for component in self.components if component.name == name})
        if elsewhere:
            text += f"; as {name!r} there is: {', '.join(spoken(other) for other in elsewhere)}"
        package = FIRST_PARTY.get((kind, name))
        if package and package not in {record.distribution for record in self.records}:
            text += f"; it is part of {package}: `uv pip install {package}`"
        for record in self.records:
            if record.status != "ok":
                text += f"; {record.told()}"
        return text


class _Collector:
    """The `register` of one plugin."""

    def __init__(self, record: PluginRecord, components: list[Component]):
        self.record = record
        self.components = components

    def __call__(
        self,
        kind: str,
        name: str,
        target: str,
        *,
        config: str | None = None,
        summary: str = "",
        presets: str | None = None,
        sample_config: str | None = None,
    ) -> None:
        _check_kind(kind)
        if not name or ":" in name or "=" in name:
            raise PluginError(f"{spoken(kind)} name {name!r} must be non-empty, without ':' and '='")
        references = {"target": target, "config": config, "presets": presets, "sample_config": sample_config}
        for field, reference in references.items():
            if reference is not None and not _is_reference(reference):
                raise PluginError(f"{field}={reference!r} of {kind} {name!r} must be a string 'module:attribute'")
        if any(component.kind == kind and component.name == name for component in self.components):
            raise PluginError(f"{spoken(kind)} {name!r} is registered twice")
        self.components.append(
            Component(
                kind,
                name,
                target,
                plugin=self.record.name,
                distribution=self.record.distribution or self.record.name,
                version=self.record.version,
                config=config,
                summary=summary,
                presets=presets,
                sample_config=sample_config,
            )
        )


@functools.cache
def host() -> PluginHost:
    """The host of the installed plugins; `host.cache_clear()` makes the next call look again."""
    return PluginHost()


def get(kind: str, name: str) -> Component:
    """`host().get(kind, name)`."""
    return host().get(kind, name)


def build(kind: str, name: str, params: Any = None) -> Any:
    """`host().build(kind, name, params)`: the component itself, made from its settings."""
    return host().build(kind, name, params)


def spoken(kind: str) -> str:
    """A kind as it is said: `forward-model` is a forward model."""
    return kind.replace("-", " ")


def describe(error: BaseException) -> str:
    """An exception on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _remedy(record: PluginRecord, error: BaseException) -> str:
    """What to do about a plugin that failed."""
    if isinstance(error, PluginError) and error.remedy:
        return error.remedy
    leave_out = f"or leave it out: GOEMBED_DISABLE_PLUGINS={record.name}"
    if isinstance(error, pluggy.PluginValidationError):
        return f"its authors have to write the hook as {' or '.join(signatures())}; update it, {leave_out}"
    return f"update or reinstall it: uv pip install --reinstall {record.distribution}, {leave_out}"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise PluginError(f"kind {kind!r} is not one of {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")


def _is_reference(reference: object) -> bool:
    if not isinstance(reference, str):
        return False
    module, colon, attribute = reference.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _distribution(entry_point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    dist = entry_point.dist
    return ("unknown", "") if dist is None else (dist.name, dist.version)


def _check_core_version(record: PluginRecord, entry_point: importlib.metadata.EntryPoint) -> None:
    """Compare the installed core with what the plugin's metadata asks for; installers can be made to ignore it."""
    found = importlib.metadata.version("goembed-core")
    for line in (entry_point.dist.requires if entry_point.dist else None) or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if requirement.name == "goembed-core" and applies and not requirement.specifier.contains(found, True):
            raise PluginError(
                f"{record} wants goembed-core{requirement.specifier}, found {found}",
                remedy=f"install versions that agree: uv pip install --upgrade goembed-core {record.distribution}",
            )
