"""What settings every task and component has, and what each must refuse and take: found from the models alone."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from goembed_core.checking import CHECKED
from goembed_core.config.check import section_model
from goembed_core.config.components import component_kind
from goembed_core.plugins import host
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo


class Key(NamedTuple):
    """One setting, by its dotted key."""

    path: str
    type: Any  # with its constraints


class Subject(NamedTuple):
    """A command whose settings are looked at, and what they are."""

    words: tuple[str, ...]
    keys: tuple[Key, ...]
    sections: dict[str, tuple[str, ...]]  # the keys of each section, "" being the outermost
    components: dict[str, str]  # the kind of each section that names a component
    command: str = "train"
    optional: frozenset[str] = frozenset()  # the sections that may be null


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key, section and component of a model: the path, and a type, a tuple of keys, or the kind of component."""
    if not prefix:
        yield "", tuple(model.model_fields)
    for name, field in model.model_fields.items():
        path, inner = prefix + name, section_model(field.annotation)
        if kind := component_kind(field):
            yield path, kind
        elif inner:
            yield path, tuple(inner.model_fields)
            yield from walk(inner, f"{path}.")
        else:
            yield path, constrained(field)


def optional_sections(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The paths of the sections that may be null."""
    for name, field in model.model_fields.items():
        if (inner := section_model(field.annotation)) and not component_kind(field):
            if type(None) in get_args(field.annotation):
                yield prefix + name
            yield from optional_sections(inner, f"{prefix}{name}.")


def constrained(field: FieldInfo) -> Any:
    """A field's type with its constraints."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def subject(words: tuple[str, ...], model: type[BaseModel], prefix: str = "", command: str = "train") -> Subject:
    """The settings of a command, or those under `prefix` that the model is of."""
    found = {f"{prefix}{path}" if path else prefix.rstrip("."): what for path, what in walk(model)}
    chosen = ("task", "preset") if command in ("train", "sample") and not prefix else ()  # these choose the others
    return Subject(
        words,
        tuple(
            Key(path, what) for path, what in found.items() if not isinstance(what, str | tuple) and path not in chosen
        ),
        {path: what for path, what in found.items() if isinstance(what, tuple)},
        {path: what for path, what in found.items() if isinstance(what, str)},
        command,
        frozenset(optional_sections(model, prefix)),
    )


def required(model: type[BaseModel], prefix: str = "") -> tuple[str, ...]:
    """Words that give what a component has no default for."""
    fields = {name: field for name, field in model.model_fields.items() if field.is_required()}
    return tuple(
        f"{prefix}{name}={json.dumps(next(filter(accepts(constrained(f)), (1, 0.5, 'a', [], 8))))}"
        for name, f in fields.items()
    )


def accepts(kind: Any) -> Callable[[Any], bool]:
    """Does a type take a value?"""
    adapter = TypeAdapter(kind)

    def check(value: Any) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return check


def subjects() -> list[Subject]:
    """Every task, every component in every section that could hold it, sampling, and every check of a component."""
    found = []
    for task in host().names("task"):
        component = host().get("task", task)
        whole = subject(("train", f"task={task}"), component.load_config())
        found.append(whole)
        for section, kind in whole.components.items():
            for name in host().names(kind):
                if model := host().get(kind, name).load_config():
                    words = (f"{section}={name}", *required(model, f"{section}."))
                    found.append(subject((*whole.words, *words), model, f"{section}."))
        if model := component.load_sample_config():
            found.append(subject(("sample", f"task={task}"), model, command="sample"))
    for kind in CHECKED:
        for name in host().names(kind):
            if model := host().get(kind, name).load_config():
                found.append(subject(("check", kind, name, *required(model)), model, command="check"))
    return found


SCALARS: list[Any] = ["abc", "", "nan", "é\u2028x", -1, 0, 3, 10**30, 1.5, math.nan, math.inf, -math.inf, True, None]
CONTAINERS: list[Any] = [[], [1], ["a", None], {}, {"a": 1}, [[[]]]]


def wrong(kind: Any, as_text: bool) -> list[Any]:
    """Values that a type has to refuse, found from the type alone; `as_text`, for the command line, where a string
    may be anything."""
    if get_origin(kind) is Annotated:
        inner, *constraints = get_args(kind)
        return wrong(inner, as_text) + list(itertools.chain.from_iterable(map(outside, flat(constraints))))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        near = [text[:-1] for text in arguments if isinstance(text, str) and len(text) > 4]
        return [x for x in [*SCALARS, *CONTAINERS, *near] if x is True or x not in arguments]
    if type(None) in arguments:
        others = [argument for argument in arguments if argument is not type(None)]
        each = [wrong(argument, as_text) for argument in others]
        return [x for x in each[0] if x is not None and all(any(same(x, y) for y in more) for more in each[1:])]
    if kind is bool:
        return [x for x in [*SCALARS, *CONTAINERS] if x not in (0, 1)]
    if kind is int:
        return [x for x in SCALARS if x not in (-1, 0, 3) or x is True] + CONTAINERS
    if kind is float:
        return ["abc", "", "nan", math.nan, math.inf, -math.inf, True, None, *CONTAINERS]
    if kind in (str, Path):
        bad = ["a\0b"] + (["", "a" * 300, "~/" + "b/" * 3000] if kind is Path else [])
        return bad if as_text else [*bad, 1, 1.5, True, None, *CONTAINERS]
    if origin in (tuple, list):
        inner = wrong(arguments[0], as_text=False)
        lists = [[x] for x in inner if len(arguments) == 1 or arguments[-1] is Ellipsis]
        if origin is tuple and arguments[-1] is not Ellipsis:
            lists = [[], [0] * (len(arguments) + 1), *([x] * len(arguments) for x in inner)]
        return [*lists, {"a": 1}, "abc", 3, True, None]
    if origin is dict:
        return [*({"a": x} for x in wrong(arguments[1], as_text=False)), "abc", 3, True, None, [1]]
    if kind is Any:
        return []
    raise AssertionError(f"a setting of type {kind}: say in `wrong` and `right` what it refuses and what it takes")


def flat(constraints: list[Any]) -> list[Any]:
    """Constraints, those inside of a FieldInfo too."""
    return [c for item in constraints for c in (getattr(item, "metadata", None) or [item])]


def outside(constraint: Any) -> list[Any]:
    """Numbers just past a limit, and far past it."""
    return {
        Gt: lambda c: [c.gt, c.gt - 1, -1e300],
        Ge: lambda c: [c.ge - 1, -1e300],
        Lt: lambda c: [c.lt, c.lt + 1, 1e300],
        Le: lambda c: [c.le + 1, 1e300],
        MinLen: lambda c: [""] * bool(c.min_length),
    }.get(type(constraint), lambda c: [])(constraint)


def same(one: Any, other: Any) -> bool:
    """Equal, and of one type; nan is nan."""
    return type(one) is type(other) and (one == other or one != one)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=8)


def right(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a type takes."""
    if get_origin(kind) is Annotated:
        return right(get_args(kind)[0]).filter(accepts(kind))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(arguments)
    if type(None) in arguments:
        return st.none() | st.one_of([right(argument) for argument in arguments if argument is not type(None)])
    if kind is int:
        return st.integers(0, 40) | st.sampled_from([2**power for power in range(3, 11)]) | st.integers(0, 2**63 - 1)
    if kind is float:
        return st.floats(0, 1) | st.floats(allow_nan=False, allow_infinity=False)
    if origin in (tuple, list):
        if origin is tuple and arguments[-1] is not Ellipsis:
            return st.tuples(*map(right, arguments)).map(list)
        return st.lists(right(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXT, right(arguments[1]), max_size=3)
    return {bool: st.booleans(), str: TEXT, Path: TEXT}[kind]
