"""The tree of a task's settings, for `--help` and `goembed config`."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from goembed_core.config.check import show
from goembed_core.config.components import ComponentConfig
from goembed_core.config.resolve import Resolved, dump


class Setting(NamedTuple):
    """One leaf of the settings."""

    key: str
    type: str
    value: Any
    source: str
    description: str


def settings(resolved: Resolved[Any]) -> list[Setting]:
    """Every leaf, in order, with its type, value, source and documentation."""
    return [
        Setting(key, kind, value, resolved.provenance.get(key, "default"), description)
        for key, kind, value, description in _walk(resolved.config, "")
    ]


def _walk(config: BaseModel, prefix: str) -> Iterator[tuple[str, str, Any, str]]:
    plain = dump(config)
    for name, field in type(config).model_fields.items():
        value, description = getattr(config, name), _description(type(config), name)
        if isinstance(value, ComponentConfig):
            yield f"{prefix}{name}.name", "str", value.name, description
            if value.settings is not None:
                yield from _walk(value.settings, f"{prefix}{name}.")
        elif isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and value:
            kind = type_name((Any, *get_args(field.annotation))[-1])
            yield from ((f"{prefix}{name}.{key}", kind, plain[name][key], description) for key in value)
        else:
            yield prefix + name, type_name(field.annotation), plain[name], description


def _description(model: type[BaseModel], name: str) -> str:
    """A field's documentation, which a subclass that only changes the default need not repeat."""
    fields = [base.model_fields[name] for base in model.__mro__ if name in getattr(base, "model_fields", {})]
    return next((field.description for field in fields if field.description), "")


def type_name(annotation: Any) -> str:
    """A type as one would say it: `int or null`, `constant|cosine`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return "|".join(str(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments)
    if annotation in (None, type(None)):
        return "null"
    if arguments:
        inner = ", ".join("..." if argument is Ellipsis else type_name(argument) for argument in arguments)
        return f"{origin.__name__}[{inner}]"
    return "name" if annotation is ComponentConfig else getattr(annotation, "__name__", str(annotation))


def help_text(resolved: Resolved[Any]) -> str:
    """Two lines per setting: the key, its type, value and source; then what it is for."""
    lines = []
    for item in settings(resolved):
        source = "" if item.source == "default" else f"  ({item.source})"
        lines.append(f"  {item.key}={plain(item.value)}  {item.type}{source}")
        if item.description:
            lines.append(f"      {item.description}")
    return "\n".join(lines)


def annotate(yaml_text: str, provenance: Mapping[str, str]) -> str:
    """The YAML of `dump_yaml`, with a comment behind each value that is not a default: where it came from."""
    keys: list[tuple[int, str]] = []
    lines = []
    for line in yaml_text.splitlines():
        indent, name = len(line) - len(line.lstrip()), line.strip().partition(":")[0]
        keys = [(depth, key) for depth, key in keys if depth < indent] + [(indent, name)]
        source = provenance.get(".".join(key for _, key in keys), "default")
        lines.append(line if source == "default" else f"{line}  # {source}")
    return "\n".join(lines) + "\n"


def plain(value: Any) -> str:
    """A value as it would be typed."""
    return value if isinstance(value, str) else show(value)
