"""What a new package and its parts are called, and which names cannot be."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
from dataclasses import dataclass

from goembed_core.errors import UserError
from goembed_core.plugins import host, spoken

PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """The names of one plugin, all made from that of its component."""

    kind: str
    name: str  # as in `goembed new forward-model NAME`

    @property
    def distribution(self) -> str:
        """What installers call it."""
        return f"goembed-{self.name}"

    @property
    def module(self) -> str:
        """What Python calls it."""
        return self.distribution.replace("-", "_")

    @property
    def component(self) -> str:
        """What it is registered as; tasks are written with underscores."""
        return self.name.replace("-", "_") if self.kind == "task" else self.name

    @property
    def title(self) -> str:
        """For people."""
        return self.name.replace("-", " ").capitalize()

    @property
    def class_name(self) -> str:
        """Its class."""
        return "".join(part.capitalize() for part in self.name.split("-"))


def check_name(kind: str, name: str) -> Names:
    """The names made from `name`, or UserError: it is not well formed, or taken in this environment."""
    if not PATTERN.fullmatch(name):
        words = "-".join(re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name).lower()))
        hint = f"; did you mean {words!r}?" if PATTERN.fullmatch(words) else ""
        raise UserError(f"NAME={name!r}: expected lower-case words joined by '-', such as motion-blur{hint}")
    if name.startswith("goembed-"):
        raise UserError(
            f"NAME={name!r}: the package will be called goembed-NAME; did you mean {name.removeprefix('goembed-')!r}?"
        )
    names = Names(kind, name)
    if keyword.iskeyword(names.class_name):
        raise UserError(f"NAME={name!r}: {names.class_name} is a word of Python's own; choose another name")
    for record in host().records:
        if name == record.name or names.distribution == record.distribution:
            raise UserError(f"NAME={name!r}: there is a plugin {record.name!r} of {record}; choose another name")
    for component in host().components:
        if (kind, names.component) == (component.kind, component.name):
            owner = f"{component.distribution} {component.version}".strip()
            raise UserError(
                f"NAME={name!r}: there is a {spoken(kind)} {component.name!r} of {owner}; choose another name"
            )
    if importlib.util.find_spec(names.module) is not None:
        raise UserError(f"NAME={name!r}: there is a module {names.module}; choose another name")
    return names


def require_distinct(names: Names, source: str) -> None:
    """UserError when a rendered module would define its class under a name that it needs for something else."""
    found: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.append(node.name)
    taken = {name for name in found if found.count(name) > 1}
    if taken:
        raise UserError(
            f"NAME={names.name!r}: the package needs the name {', '.join(sorted(taken))} for something else; "
            "choose another name"
        )
