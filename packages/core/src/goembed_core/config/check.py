"""Validation, with errors in the user's terms: the key, the value, what was expected, and the closest key."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from goembed_core.errors import ConfigError, closest, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class Given(NamedTuple):
    """What is known of the values besides themselves, by dotted key."""

    origins: Mapping[str, str] = {}  # where each came from
    texts: Mapping[str, str] = {}  # how those of the command line were typed


NOTHING = Given()


def check(model: type[Model], values: Mapping[str, Any], *, prefix: str = "", given: Given = NOTHING) -> Model:
    """An instance of the model; `prefix` is the dotted key of the section that `values` are.

    A value that was read as JSON but is refused as such is tried as the string that was typed: `run.name=1`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error
    retyped = _retyped(first, values, prefix, given.texts)
    if retyped is not None:
        try:
            return model.model_validate(retyped)
        except ValidationError:
            pass
    raise ConfigError(explain(first, model, prefix=prefix, origins=given.origins)) from first


def _retyped(error: ValidationError, values: Any, prefix: str, texts: Mapping[str, str]) -> Any:
    """A copy of the values where those refused are as typed, or None if none of them was typed."""
    changed = None
    for problem in error.errors(include_url=False):
        text = texts.get(_dotted(prefix, problem["loc"]))
        if text is None or isinstance(problem["input"], str | Mapping) or not problem["loc"]:
            continue  # a section's text is the name of its component
        changed = copy.deepcopy(values) if changed is None else changed
        section = changed
        for part in problem["loc"][:-1]:
            section = section[part]
        section[problem["loc"][-1]] = text
    return changed


def _dotted(prefix: str, loc: tuple[int | str, ...]) -> str:
    return ".".join([prefix] * bool(prefix) + [str(part) for part in loc])


def explain(
    error: ValidationError, model: type[BaseModel], *, prefix: str = "", origins: Mapping[str, str] | None = None
) -> str:
    """Every problem on one line; `origins` says where the value of a dotted key came from."""
    known = [f"{prefix}.{key}" if prefix else key for key in keys(model)]
    texts = []
    for problem in error.errors(include_url=False):
        path = _dotted(prefix, problem["loc"])
        texts.append(_explain(problem, path, known) + _origin(path, origins or {}))
    return "; ".join(dict.fromkeys(texts))


def keys(model: type[BaseModel]) -> list[str]:
    """Every dotted key of a model of settings."""
    found = []
    for name, field in model.model_fields.items():
        inner = section_model(field.annotation)
        found += [f"{name}.{key}" for key in keys(inner)] if inner else [name]
    return found


def section_model(annotation: Any) -> type[BaseModel] | None:
    """The model behind `Model` or `Model | None`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def nearest_key(path: str, known: list[str]) -> str | None:
    """The key or section that was probably meant; its last part counts most, as sections are seldom misspelt."""
    section, _, last = path.rpartition(".")
    sections = {key[:end] for key in known for end, letter in enumerate(key) if letter == "."}
    candidates = [*known, *sorted(sections)]
    siblings = {_last(key): key for key in candidates if key.rpartition(".")[0] == section}
    if (near := closest(last, siblings)) is not None:
        return siblings[near]
    by_last: dict[str, list[str]] = {}
    for key in candidates:
        by_last.setdefault(_last(key), []).append(key)
    if (near := closest(last, by_last)) is not None and len(by_last[near]) == 1:
        return by_last[near][0]
    return None if section in {"", *sections} else closest(path, candidates)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def show(value: Any) -> str:
    """A value as it would be written on the command line."""
    try:
        text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _explain(problem: Mapping[str, Any], path: str, known: list[str]) -> str:
    """One problem: `key=value: what was expected`."""
    value, last = problem["input"], problem["loc"][-1] if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return _unknown(path, value, known, str(last))
    if problem["type"] == "missing" and isinstance(last, int):
        return f"{path.rpartition('.')[0]}={show(value)}: expected at least {last + 1} values"
    if problem["type"] == "missing":
        return f"{path}: is required; give {path}=VALUE"
    if problem["type"] == "literal_error" and isinstance(value, str):
        choices = re.findall(r"'([^']*)'", str(problem["ctx"]["expected"]))
        return f"{path}={show(value)}: {problem['msg']}{did_you_mean(value, choices)}"
    if problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
        inner = [key for key in known if key.startswith(f"{path}.")]
        expected = f"a section; its keys are {', '.join(inner)}" if inner else "a section"
        return f"{path}={show(value)}: expected {expected}"
    if problem["type"] in ("list_type", "tuple_type"):
        return f"{path}={show(value)}: expected a list, as in {path}='[1,2]' or {path}='[\"a\"]'"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(value, Mapping):  # a law of the whole section
        return f"{path}: {message}" if path else message
    return f"{path}={show(value)}: {message}"


def _unknown(path: str, value: Any, known: list[str], last: str) -> str:
    given, what = (path, "section") if isinstance(value, Mapping) else (f"{path}={show(value)}", "key")
    text = f"{given}: there is no such {what}"
    if "." in last and path in known:  # only a file can have one
        outer, _, inner = last.partition(".")
        return f"{text} with a dot in its name; did you mean {outer}: {{{inner}: {show(value)}}}?"
    meant = nearest_key(path, known)
    if meant:
        return f"{text}; did you mean {meant}?"
    section = path.rpartition(".")[0]
    depth = len(section) + 1 if section else 0
    below = [key for key in known if not section or key.startswith(f"{section}.")]
    siblings = list(dict.fromkeys(key[:depth] + key[depth:].partition(".")[0] for key in below))
    return text + (f"; {'keys of ' + section if section else 'keys'}: {', '.join(siblings)}" if siblings else "")


def _origin(path: str, origins: Mapping[str, str]) -> str:
    """Where the value came from, unless it was typed on the command line and so is in plain sight."""
    source = origins.get(path, "default")
    return "" if source in ("command line", "default") else f" (from {source})"
