"""YAML as YAML 1.2 reads it: `no` is a word and `1e-4` a number; a key given twice is an error."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from goembed_core.errors import ConfigError

# The core schema of YAML 1.2, https://yaml.org/spec/1.2.2/#103-core-schema, and the characters each can begin with.
CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
)
LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader under the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, whose keys must differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """A dumper that quotes whatever either version of YAML would not read as a string."""


def _float(loader: Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _int(loader: Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # PyYAML's own reads 010 as octal


def _dump_list(dumper: Dumper, values: list[Any]) -> yaml.SequenceNode:
    flow = not any(isinstance(value, list | dict) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


def _dump_str(dumper: Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if LINE_BREAK.search(text) else None)


for _tag, _pattern, _first in CORE_SCHEMA:
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
Loader.add_constructor("tag:yaml.org,2002:float", _float)
Loader.add_constructor("tag:yaml.org,2002:int", _int)
Dumper.add_representer(list, _dump_list)
Dumper.add_representer(str, _dump_str)


def load_yaml(text: str) -> Any:
    """The value of a YAML document."""
    return yaml.load(text, Loader)


def load_yaml_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config={path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config={path}: not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"config={path}: expected a mapping of keys to values, got {type(tree).__name__}")
    return tree


def dump_tree(tree: Any) -> str:
    """YAML of plain values in their own order: a line for each, a list of scalars included."""
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=math.inf)
