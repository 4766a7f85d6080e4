"""YAML as YAML 1.2 reads it: `no` is a word and `1e-4` a number; a key given twice is an error."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from goembed_core.errors import ConfigError, whereabouts

# The core schema of YAML 1.2, https://yaml.org/spec/1.2.2/#103-core-schema, and the characters each can begin with.
CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
)
MAX_VALUES = 100_000  # of a file; settings have some hundreds
MAX_DEPTH = 64  # of sections and lists within each other; settings have about five
LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader under the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, whose keys must differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "expected a word as a key", key.start_mark)
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
    """The value of a YAML document; YAMLError if it is none, or one that references make endless."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded_size(node, {}, ())
        return loader.construct_document(node)
    except (ValueError, RecursionError, TypeError) as error:  # 2020-13-45, 5000 digits, 1000 brackets
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _expanded_size(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values a node stands for once its references are written out."""
    if id(node) in above:
        raise yaml.constructor.ConstructorError(None, None, "a reference to what it is part of", node.start_mark)
    if len(above) > MAX_DEPTH:
        message = f"more than {MAX_DEPTH} sections or lists within each other"
        raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.SequenceNode) else []
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(_expanded_size(part, known, (*above, id(node))) for part in parts)
    if known[id(node)] > MAX_VALUES:
        message = f"its references make it more than {MAX_VALUES} values"
        raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
    return known[id(node)]


def load_yaml_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config={whereabouts(path)}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config={path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config={path}: not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config={path}: expected a mapping of keys to values, got {type(tree).__name__}")
    _check_keys(tree, "", path)
    return tree


def _check_keys(tree: Any, prefix: str, path: Path) -> None:
    """Every key is a word, and one of its own: sections are nested, `train: {images: 1}`."""
    if isinstance(tree, list):
        for item in tree:
            _check_keys(item, prefix, path)
    if isinstance(tree, dict):
        for key, value in tree.items():
            if not isinstance(key, str) or not key:
                where = f" in {prefix.rstrip('.')}" if prefix else ""
                raise ConfigError(
                    f"config={path}: the key {key!r}{where} is not a word; expected the name of a setting"
                )
            _check_keys(value, f"{prefix}{key}.", path)


def dump_tree(tree: Any) -> str:
    """YAML of plain values in their own order: a line for each, a list of scalars included."""
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=math.inf)
