"""Settings put together: defaults < the task's preset < `config=FILE.yaml` < `key=value` on the command line."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from packaging.utils import canonicalize_name
from pydantic import BaseModel

from goembed_core.config.check import Given, check, section_model
from goembed_core.config.components import ComponentConfig, component_kind, resolve_components
from goembed_core.config.models import TaskConfig
from goembed_core.config.yaml import MAX_DEPTH, dump_tree, load_yaml_file
from goembed_core.errors import ConfigError, PluginError, closest, did_you_mean
from goembed_core.plugins import Component, PluginHost, host

JUDGING = ("evaluate", "sampler")  # the sections of a task that change nothing of what is learned

Tree = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class Override(NamedTuple):
    """One `key=value` of the command line."""

    key: str
    value: Any
    text: str  # the value as it was typed


class Layer(NamedTuple):
    """Settings from one source."""

    source: str
    tree: Tree


@dataclass(frozen=True)
class Resolved(Generic[Model]):
    """Checked settings, and where each came from."""

    config: Model
    provenance: dict[str, str]  # dotted key of every leaf: "default", "preset quick", "FILE.yaml" or "command line"
    component: Component | None = None  # the task


def parse_override(text: str) -> Override:
    """Read `key=value` or `--key=value`; the value is JSON, else the string itself."""
    key, equals, value = text.removeprefix("--").partition("=")
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"{text!r} is not of the form key=value")
    too_deep = ConfigError(f"{key[:80]}: more than {MAX_DEPTH} sections or lists within each other")
    try:
        parsed = json.loads(value, object_pairs_hook=partial(_object, key))
    except ValueError:
        parsed = value
    except RecursionError:
        raise too_deep from None
    if key.count(".") + _depth(parsed) > MAX_DEPTH:
        raise too_deep
    return Override(key, parsed, value)


def _depth(value: Any) -> int:
    """How many mappings and lists are within each other."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def _object(where: str, pairs: list[tuple[str, Any]]) -> Tree:
    """A JSON object, whose keys must differ."""
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ConfigError(f"{where}: key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return tree


def resolve(
    task_name: str | None = None, overrides: Sequence[str] = (), *, host: PluginHost | None = None
) -> Resolved[TaskConfig]:
    """The settings of a task; the name may also be given as `task=NAME`, in the overrides or in the file."""
    parsed, file = _split_file([parse_override(text) for text in overrides])
    chosen = _choose("task", parsed, file)
    if task_name is not None and chosen not in (None, task_name):
        raise ConfigError(f"task={chosen}: these are settings of task {task_name!r}")
    component = _task(task_name or chosen, host)
    model = component.load_config()
    given_preset = _choose("preset", parsed, file)
    preset = given_preset or model.model_fields["preset"].default
    layers = [_preset_layer(component, preset, given=given_preset is not None)] + ([file] if file else [])
    resolved = resolve_model(model, parsed, layers, fixed={"task": task_name or chosen, "preset": preset}, host=host)
    return Resolved(resolved.config, resolved.provenance, component)


def resolve_run(run: Path, overrides: Sequence[str] = (), *, host: PluginHost | None = None) -> Resolved[TaskConfig]:
    """The settings of an earlier run, from its `config.yaml`, with overrides; the run's folder is where it lies now."""
    with told_what_is_missing(run):
        resolved = resolve(None, [f"config={_config_file(run)}", *overrides], host=host)
    moved = resolved.config.run.model_copy(update={"dir": run})
    return Resolved(resolved.config.model_copy(update={"run": moved}), resolved.provenance, resolved.component)


def resolve_evaluation(
    run: Path, overrides: Sequence[str] = (), *, host: PluginHost | None = None
) -> Resolved[TaskConfig]:
    """The settings of an earlier run to be judged again, of which only those of the judging may differ."""
    foreign = [item for item in overrides if not item.removeprefix("--").startswith(tuple(f"{s}." for s in JUDGING))]
    resolved = resolve_run(run, overrides, host=host)
    if foreign:
        raise ConfigError(
            f"{foreign[0]}: an evaluation takes only settings under {' and '.join(JUDGING)}; a run keeps its others"
        )
    return resolved


@contextmanager
def told_what_is_missing(run: Path) -> Iterator[None]:
    """A component that is not there is told of with the plugins that made the run and are not installed now."""
    try:
        yield
    except PluginError as error:
        raise PluginError(f"{error}{_missing_plugins(run)}") from error


def _missing_plugins(run: Path) -> str:
    try:
        made_by = json.loads((run / "environment.json").read_text())["plugins"]
    except (OSError, ValueError, KeyError):
        return ""
    found = {canonicalize_name(distribution.name) for distribution in importlib.metadata.distributions()}
    text = ""
    for name, version in made_by.items():
        if canonicalize_name(name) not in found:
            series = ".".join(version.split(".")[:2])
            text += (
                f"; {run} was made with {name} {version}, which is not installed: uv pip install '{name}=={series}.*'"
            )
    return text


def run_task(run: Path) -> str:
    """The task of an earlier run."""
    path = _config_file(run)
    task = load_yaml_file(path).get("task")
    if not isinstance(task, str):
        raise ConfigError(f"{path} does not name a task")
    return task


def _config_file(run: Path) -> Path:
    path = run / "config.yaml"
    if not os.path.isfile(path):
        raise ConfigError(f"{run} is not a run: it has no config.yaml{suggest_run(run)}")
    return path


def suggest_run(folder: Path) -> str:
    """The run in or beside a folder that may have been meant, or those that there are."""
    try:
        inside = sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/config.yaml"))
        beside = sorted(path.parent for path in folder.parent.glob("*/config.yaml"))
    except OSError:  # a folder that may not be looked into, or a name that no folder can have
        return ""
    if inside or not beside:
        return f"; runs in it: {', '.join(map(str, inside))}" if inside else ""
    match = closest(folder.name, [path.name for path in beside])
    return f"; did you mean {folder.parent / match}?" if match else f"; runs there: {', '.join(map(str, beside))}"


def resolve_model(
    model: type[Model],
    overrides: Sequence[Override | str],
    layers: Sequence[Layer] = (),
    *,
    fixed: Mapping[str, Any] | None = None,
    host: PluginHost | None = None,
) -> Resolved[Model]:
    """Any model of settings from layers, then overrides; `fixed` keys are set whatever the layers say."""
    parsed = [parse_override(item) if isinstance(item, str) else item for item in overrides]
    texts = {item.key: item.text for item in parsed}
    merger = Merger(model)
    for layer in layers:
        merger.add(layer)
    # The choice of a component comes first, as it drops the settings of the one before; of a key given twice the
    # last counts.
    chooses = {key for section in merger.sections for key in (section, f"{section}.name")}
    for item in sorted(parsed, key=lambda item: item.key not in chooses):
        merger.add(Layer("command line", _nest(item)))
    merger.tree.update(fixed or {})
    given = Given(merger.origins, texts)
    config = resolve_components(check(model, merger.tree, given=given), host, given=given)
    leaves = dict(_leaves(dump(config)))
    return Resolved(config, {path: _lookup(merger.origins, path) for path in leaves})


class Merger:
    """Settings merged key by key, and the source of each leaf."""

    def __init__(self, model: type[BaseModel]):
        self.tree = _defaults(model)
        self.origins: dict[str, str] = {}
        self.sections = set(_component_sections(model))

    def add(self, layer: Layer) -> None:
        """Put a layer on top."""
        self._merge(self.tree, layer.tree, layer.source, "")

    def _merge(self, below: Tree, above: Mapping[str, Any], source: str, prefix: str) -> None:
        for key, value in above.items():
            path = prefix + key
            if path in self.sections and isinstance(value, str):
                value = {"name": value}
            if not isinstance(value, Mapping):
                self._forget(path)
                below[key] = value
                self.origins[path] = source
                continue
            if path in self.sections and self._renames(below.get(key), value):
                self._forget(path)
                below[key] = {}  # another component: the settings of the one before do not apply
            if not isinstance(below.get(key), dict):
                if self.origins.get(path) == source and below.get(key) is not None:
                    raise ConfigError(f"{path} is given both as {below[key]!r} and by its keys (from {source})")
                below[key] = {}
            self._merge(below[key], value, source, path + ".")
            if not below[key]:
                self.origins[path] = source  # nothing in it, which is a value as well

    def _forget(self, path: str) -> None:
        self.origins = {key: source for key, source in self.origins.items() if not f"{key}.".startswith(f"{path}.")}

    @staticmethod
    def _renames(below: Any, above: Mapping[str, Any]) -> bool:
        return isinstance(below, dict) and "name" in above and above["name"] != below.get("name")


def dump(config: BaseModel) -> Tree:
    """Settings as plain values."""
    return config.model_dump(mode="json")


def dump_yaml(config: BaseModel) -> str:
    """Settings as YAML that `config=FILE.yaml` reads back."""
    return dump_tree(dump(config))


def _split_file(parsed: list[Override]) -> tuple[list[Override], Layer | None]:
    """Take `config=FILE.yaml` out of the overrides."""
    files = [item.text for item in parsed if item.key == "config"]
    if len(files) > 1:
        raise ConfigError(f"config is given twice: {' and '.join(files)}")
    rest = [item for item in parsed if item.key != "config"]
    return rest, Layer(files[0], load_yaml_file(Path(files[0]))) if files else None


def _choose(key: str, parsed: list[Override], file: Layer | None) -> str | None:
    """The value of `task` or `preset`, which decide what the other keys mean."""
    for item in parsed:
        if item.key.startswith(f"{key}."):
            raise ConfigError(f"{item.key}={item.text}: there is no such key; {key} is a name, not a section")
    given = [item.text for item in parsed if item.key == key]
    value = given[-1] if given else (file.tree.get(key) if file else None)
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{key}={value}: expected a name")
    return value


def _task(name: str | None, host_: PluginHost | None) -> Component:
    plugins = host_ or host()
    if not name:
        raise ConfigError(f"which task? give task=NAME; available: {', '.join(plugins.names('task')) or 'none'}")
    component = plugins.get("task", name)
    model = component.load_config()
    if not (isinstance(model, type) and issubclass(model, TaskConfig)):
        raise PluginError(f"task {name!r} of {component.distribution}: its config must be a TaskConfig, got {model!r}")
    return component


def _preset_layer(component: Component, preset: str, *, given: bool) -> Layer:
    presets = component.load_presets()
    if preset not in presets and (given or presets):
        raise ConfigError(
            f"preset={preset}: task {component.name!r} has no such preset{did_you_mean(preset, presets)}; "
            f"available: {', '.join(presets) or 'none'}"
        )
    return Layer(f"preset {preset}", dict(presets.get(preset, {})))


def _nest(item: Override) -> Tree:
    """`a.b=1` as `{"a": {"b": 1}}`."""
    tree: Any = item.value
    for part in reversed(item.key.split(".")):
        tree = {part: tree}
    return tree


def _defaults(model: type[BaseModel]) -> Tree:
    """What a model's fields are when nothing is said, as plain values; required ones are left out."""
    found: Tree = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            continue
        value = field.get_default(call_default_factory=True)
        found[name] = dump(value) if isinstance(value, BaseModel) else value
    return found


def _component_sections(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted keys of the sections that name a component."""
    for name, field in model.model_fields.items():
        inner = section_model(field.annotation)
        if component_kind(field):
            yield prefix + name
        elif inner and not issubclass(inner, ComponentConfig):
            yield from _component_sections(inner, f"{prefix}{name}.")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _lookup(origins: Mapping[str, str], path: str) -> str:
    """The source of a leaf, or of the value that it is part of."""
    while path and path not in origins:
        path = path.rpartition(".")[0]
    return origins.get(path, "default")
