"""Every hook, kind, protocol and promise is documented, in docs/plugins.md and where it is written."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import goembed_core.protocols
import goembed_core.tasks
import goembed_core.traits
import pytest
from goembed_core import hooks

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/plugins.md").read_text()
README = (ROOT / "packages/core/README.md").read_text()


def own_classes(module) -> dict[str, type]:
    """The public classes that a module defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


PROTOCOLS = own_classes(goembed_core.protocols) | own_classes(goembed_core.tasks)
TRAITS = own_classes(goembed_core.traits)


def own_methods(cls: type) -> dict[str, object]:
    """What a protocol asks for: methods that it writes out itself, with their docstrings."""
    members = {name: getattr(value, "__func__", value) for name, value in vars(cls).items()}
    wanted = ("__call__", "__len__", "__getitem__")
    return {
        name: value
        for name, value in members.items()
        if inspect.isfunction(value) and (not name.startswith("_") or name in wanted)
    }


def section(name: str) -> str:
    """What docs/plugins.md says under one protocol."""
    found = re.search(rf"^### `{name}`\n(.*?)(?=^##)", TEXT, re.M | re.S)
    assert found, f"docs/plugins.md has no section `{name}`"
    return found[1]


def test_there_is_something_to_document():
    assert hooks.signatures() == ["goembed_register(register)"]
    assert {"Observations", "ForwardModel", "Encoder", "Denoiser", "Dataset", "Task"} <= PROTOCOLS.keys()
    assert own_methods(goembed_core.protocols.ForwardModel).keys() == {"__call__", "example"}
    assert own_methods(goembed_core.tasks.Task).keys() == {"train", "evaluate", "sample"}
    assert len(TRAITS) >= 4


@pytest.mark.parametrize("signature", hooks.signatures())
def test_every_hook_is_documented(signature):
    name = signature.partition("(")[0]
    assert f"### `{signature}`\n" in TEXT
    assert name in README and f"def {name}(" in README
    assert inspect.getdoc(getattr(hooks.HookSpecs, name))


def test_every_argument_of_register_is_documented():
    for name in list(inspect.signature(hooks.Register.__call__).parameters)[1:]:
        assert f"| `{name}` |" in TEXT, name


def test_every_kind_is_documented():
    kinds = re.search(r"^## Kinds\n(.*?)^## ", TEXT, re.M | re.S)[1]
    assert re.findall(r"^\| `([\w-]+)` \|", kinds, re.M) == list(hooks.KINDS)
    for kind in hooks.KINDS:
        assert f"`{kind}`" in README


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_documented(name):
    protocol = PROTOCOLS[name]
    assert protocol.__doc__, name
    text = section(name)
    for method, function in own_methods(protocol).items():
        assert function.__doc__, f"{name}.{method} has no docstring"
        parameters = [p for p in inspect.signature(function).parameters if p != "self"]
        told = re.search(rf"^- `{method}\((.*?)\)`:", text, re.M)
        assert told, f"docs/plugins.md does not tell of {name}.{method}"
        assert [word.partition("=")[0].strip() for word in told[1].split(",") if word] == parameters
    for attribute in vars(protocol).get("__annotations__", {}):
        assert f"`{attribute}`" in text, f"docs/plugins.md does not tell of {name}.{attribute}"


@pytest.mark.parametrize("name", TRAITS)
def test_every_promise_is_documented(name):
    assert f"`{name}`" in TEXT
    for field in TRAITS[name]._fields:
        assert f"`{field}`" in TRAITS[name].__doc__, f"{name}.{field}"


def test_the_documents_that_are_linked_exist():
    for path in sorted((ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
        for anchor in re.findall(r"\]\(plugins\.md#([\w-]+)\)", path.read_text()):
            titles = re.findall(r"^#+ (.*)$", TEXT, re.M)
            assert anchor in {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}
