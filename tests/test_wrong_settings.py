"""Wrong settings, drawn from the models of every task and component that is installed.

Each ends in one line that names the key, and the closest valid one where a name was given that does not exist, before
there is a run directory and before anything heavy is imported. What is right can be written down and read back.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import runpy
import subprocess
import sys
import types
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import goembed_core
import pytest
import yaml
from goembed_core import cli
from goembed_core.config import ConfigError, dump_yaml, resolve
from goembed_core.config.resolve import parse_override
from goembed_core.config.yaml import dump_tree, load_yaml
from goembed_core.errors import closest
from goembed_core.plugins import host
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

HEAVY = ("torch", "diffusers", "accelerate", "numpy", "rich", "matplotlib")
DRAWING = types.SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "settings" / "drawing.py")))
SUBJECTS: list[Any] = DRAWING.subjects()
EXAMPLES = 80  # of each family; seven of them
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


# How a setting reaches the command ------------------------------------------------------------------------------------


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b` and 1 as `{"a": {"b": 1}}`."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def in_file(chosen: Any, path: str, value: Any) -> dict[str, Any]:
    """The content of a file that chooses the component and gives a setting."""
    tree: dict[str, Any] = {}
    words = [parse_override(word) for word in chosen.words[2:]]
    given = [(f"{word.key}.name" if index == 0 else word.key, word.value) for index, word in enumerate(words)]
    for key, what in [*given, (path, value)]:
        *sections, last = key.split(".")
        section = tree
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = what
    return tree


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, and in the place of the heavy half a module that must not be called."""

    def fail(*arguments: object) -> None:
        raise AssertionError(f"the heavy half was called with {arguments}")

    module = types.ModuleType("goembed_core.runner")
    module.train = module.sample = module.evaluate = fail
    monkeypatch.setitem(sys.modules, "goembed_core.runner", module)
    monkeypatch.setattr(goembed_core, "runner", module, raising=False)
    monkeypatch.setattr("goembed_core.checking.Examination", fail, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(folder: Path, words: tuple[str, ...], file: str | None = None) -> str:
    """The line that a command ends with, once it has left nothing behind."""
    path = folder / "settings.yaml"
    if file is not None:
        path.write_bytes(file.encode("utf-8", "surrogatepass"))
        words = (*words, f"config={path}")
    note(f"{words} {file!r}")
    errors, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(out):
        status = cli.main(words)
    text = errors.getvalue()
    note(text)
    path.unlink(missing_ok=True)
    assert status == 2 and text.startswith("error: ") and text.endswith("\n"), text
    assert len(text.splitlines()) == 1 and out.getvalue() == ""
    assert text[:-1].isprintable()
    assert not list(folder.iterdir())
    return text.removeprefix("error: ")


def tell(folder: Path, data: st.DataObject, chosen: Any, path: str, value: Any) -> str:
    """What a command says to a setting, on the command line or in a file."""
    if chosen.command == "train" and data.draw(st.booleans(), "in a file"):
        return refusal(folder, chosen.words[:2], dump_tree(in_file(chosen, path, value)))
    dashes = "--" if data.draw(st.booleans(), "dashes") else ""
    return refusal(folder, (*chosen.words, f"{dashes}{path}={typed(value)}"))


def typed(value: Any) -> str:
    """A value as it is typed."""
    return value if isinstance(value, str) and not readable(value) else json.dumps(value)


def readable(text: str) -> bool:
    """Is a string something else once it is read as JSON?"""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def shown(path: str) -> str:
    """A key as an error shows it, on one line."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in path)


def misspelt(data: st.DataObject, name: str) -> str:
    """A name with one letter lost, doubled, swapped or changed."""
    place = data.draw(st.integers(0, len(name) - 2), "place")
    edit = data.draw(st.sampled_from(["lost", "doubled", "swapped", "changed", "upper"]), "edit")
    return {
        "lost": name[:place] + name[place + 1 :],
        "doubled": name[: place + 1] + name[place:],
        "swapped": name[:place] + name[place + 1] + name[place] + name[place + 2 :],
        "changed": name[:place] + "x" + name[place + 1 :],
        "upper": name[:place] + name[place].upper() + name[place + 1 :],
    }[edit]


def suggested(line: str) -> str | None:
    """What an error says was probably meant."""
    _, found, rest = line.partition("did you mean ")
    return rest.partition("?")[0].strip("'") if found else None


def as_near(suggestion: str, to: str, as_: str) -> bool:
    """Is the suggestion at least as like what was given as what was meant is?"""
    last = suggestion.rpartition(".")[2].lower()
    ratio = SequenceMatcher(None, to.lower(), last).ratio()
    return last == as_.lower() or ratio >= SequenceMatcher(None, to.lower(), as_.lower()).ratio() - 1e-9


# The families ---------------------------------------------------------------------------------------------------------

NAMES = st.text(min_size=1, max_size=8) | st.from_regex(r"[a-z][a-z_]{0,11}", fullmatch=True)
ANYTHING = st.sampled_from([1, "x", None, [], {}, {"a": 1}, 1e300, "é\n"])


def unknown_key(folder: Path, data: st.DataObject) -> None:
    """A key that there is not, at any depth."""
    chosen = data.draw(st.sampled_from(SUBJECTS), "subject")
    section, known = data.draw(st.sampled_from(sorted(chosen.sections.items())), "section")
    name = data.draw(NAMES, "name")
    assume(name not in known and name not in ("name", "config") and not set("=.") & set(name))
    assume(not name.startswith("-") and "\0" not in name and name.isprintable() | (name.isascii()))
    path = f"{section}.{name}".strip(".")
    line = tell(folder, data, chosen, path, data.draw(ANYTHING, "value"))
    assert shown(path) in line and "there is no such" in line
    if closest(name, known):
        assert suggested(line) is not None
    elif suggested(line) is None:
        assert known[-1] in line  # a list of what there is


def misspelt_key(folder: Path, data: st.DataObject) -> None:
    """A key or section with a slip in it."""
    chosen = data.draw(st.sampled_from(SUBJECTS), "subject")
    section, known = data.draw(st.sampled_from(sorted(chosen.sections.items())), "section")
    meant = data.draw(st.sampled_from([name for name in known if len(name) >= 4] or ["none"]), "meant")
    name = misspelt(data, meant)
    assume(meant != "none" and name not in known and name not in ("name", "config"))
    path = f"{section}.{name}".strip(".")
    line = tell(folder, data, chosen, path, data.draw(ANYTHING, "value"))
    assert path in line and "there is no such" in line
    suggestion = suggested(line)
    assert suggestion is not None and suggestion.rpartition(".")[0] == section
    assert suggestion.rpartition(".")[2] in known and as_near(suggestion, name, meant)


def wrong_value(folder: Path, data: st.DataObject) -> None:
    """A value of another type, out of range, or not among the choices."""
    chosen = data.draw(st.sampled_from([one for one in SUBJECTS if one.keys]), "subject")
    key = data.draw(st.sampled_from(chosen.keys), "key")
    value = data.draw(st.sampled_from(DRAWING.wrong(key.type, as_text=False) or [...]), "value")
    assume(value is not ...)
    on_line = any(DRAWING.same(value, other) for other in DRAWING.wrong(key.type, as_text=True))
    if chosen.command == "train" and (not on_line or data.draw(st.booleans(), "in a file")):
        line = refusal(folder, chosen.words[:2], dump_tree(in_file(chosen, key.path, value)))
    else:
        assume(on_line)
        line = refusal(folder, (*chosen.words, f"{key.path}={typed(value)}"))
    assert key.path in line or key.path.rpartition(".")[2] in line
    choices = next((get_args(t) for t in (key.type, *get_args(key.type)) if get_origin(t) is Literal), ())
    if choices and isinstance(value, str) and get_origin(key.type) not in (list, tuple):
        assert any(str(choice) in line for choice in choices)
        assert closest(value, map(str, choices)) in (None, suggested(line))


def no_section(folder: Path, data: st.DataObject) -> None:
    """Something else where a section is due."""
    chosen = data.draw(st.sampled_from(SUBJECTS), "subject")
    sections = [path for path in chosen.sections if path and path not in " ".join(chosen.words)]
    assume(sections)
    path = data.draw(st.sampled_from(sections), "section")
    wrong_values = [3, [1], "abc", True, 1.5, []] + ([] if path in chosen.optional else [None])
    line = tell(folder, data, chosen, path, data.draw(st.sampled_from(wrong_values), "value"))
    assert f"{path}=" in line and "expected a section; its keys are" in line


def unknown_component(folder: Path, data: st.DataObject) -> None:
    """A component, task or preset that there is not, or misspelt."""
    chosen = data.draw(st.sampled_from([one for one in SUBJECTS if one.command == "train" and one.components]))
    task = host().get("task", chosen.words[1].partition("=")[2])
    names = {path: tuple(host().names(kind)) for path, kind in chosen.components.items()}
    names |= {"preset": tuple(task.load_presets()), "task": tuple(host().names("task"))}
    path = data.draw(st.sampled_from(sorted(names)), "section")
    meant = data.draw(st.sampled_from(names[path]), "meant")
    slip = data.draw(st.booleans(), "slip") and len(meant) >= 4
    name = misspelt(data, meant) if slip else data.draw(st.text(min_size=1, max_size=9), "name")
    assume(name not in names[path] and name.strip() and not readable(name) and "\0" not in name and ":" not in name)
    if path == "task":
        line = refusal(folder, ("train", f"task={name}"))
    else:
        spelt = f"{path}.name" if path in chosen.components and data.draw(st.booleans(), "name") else path
        line = tell(folder, data, chosen, spelt, name)
    assert path in line
    if closest(name, names[path]):
        assert suggested(line) in names[path] and as_near(suggested(line), name, suggested(line))
    else:
        assert all(known in line for known in names[path])


def twice(folder: Path, data: st.DataObject) -> None:
    """A key given twice in a file, or in JSON on the command line; or as a value and by its keys."""
    chosen = data.draw(st.sampled_from([one for one in SUBJECTS if one.command == "train"]), "subject")
    section, known = data.draw(st.sampled_from(sorted(chosen.sections.items())), "section")
    name = data.draw(st.sampled_from(known), "key")
    pair = f"{{{json.dumps(name)}: 1, {json.dumps(name)}: 2}}"
    if section and data.draw(st.booleans(), "in JSON"):
        line = refusal(folder, (*chosen.words, f"{section}={pair}"))
    else:
        text = pair
        for part in reversed([part for part in section.split(".") if part]):
            text = f"{{{part}: {text}}}"
        line = refusal(folder, chosen.words, text)
    assert f"'{name}' is given twice" in line


def no_yaml(folder: Path, data: st.DataObject) -> None:
    """Files that are no settings: of any text, keys that are no words, endless by reference, too deep."""
    text = data.draw(
        st.sampled_from([
            "[1]", "3", "abc", "a: [", "{", "? [1]\n: 2", "train: {1: 2}", "train: {null: 1}", "{[1]: 2}", "a: &x [*x]",
            "a: &x {b: *x}", "a: !!python/object:os.system {}", "train: {images: " + "9" * 5000 + "}",
            "a: " + "[" * 3000,
            "\t", "a: 1\n---\nb: 2", "train: {seed: 0x}", "\x00", "a: !!binary x", "a: 2020-13-45", "&a *a", "'': 1",
            "a: &a [1,1,1,1,1,1,1,1]\n" + "\n".join(f"{y}: &{y} [{','.join(['*' + x] * 8)}]" for x, y in
                                                      itertools.pairwise("abcdefghijklm")),
            "train.seed: 1", "train: {seed.x: 1}", "train: {<<: {seed: -1}}", "train: !!set {a, b}",
        ]) | st.text(min_size=1, max_size=20)
        | st.text(alphabet="{}[]:,-&*!|>'\"?#%@ \n\tab01", min_size=1, max_size=20), "text",
    )  # fmt: skip
    try:
        empty = load_yaml(text) in (None, {})
    except yaml.YAMLError:
        empty = False
    assume(not empty)
    refusal(folder, ("train", f"task={host().names('task')[0]}"), text)


FAMILIES = [unknown_key, misspelt_key, wrong_value, no_section, unknown_component, twice, no_yaml]
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


def search(family: Callable[[Path, st.DataObject], None], folder: Path, examples: int) -> int:
    """Draw examples of a family, the same ones every time; how many there were."""

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        nonlocal whole
        family(folder, data)
        whole += 1

    whole = 0
    run()
    return whole


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_wrong_settings_are_told_in_a_line(folder, family):
    assert search(family, folder, EXAMPLES) >= EXAMPLES


@pytest.mark.slow
def test_many_wrong_settings_are_told_in_a_line(folder):
    """Some families have fewer, as there are only so many keys."""
    drawn = {family.__name__: search(family, folder, 2_000) for family in FAMILIES}
    assert sum(drawn.values()) >= 10_000, drawn


HEAVY_TOO_EARLY = """
import contextlib, io, json, sys
from goembed_core import cli

for words in json.loads(sys.stdin.read()):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        status = cli.main(words)
    heavy = sorted(set(json.loads(sys.argv[1])) & set(sys.modules))
    assert (status, heavy, errors.getvalue().count("\\n")) == (2, [], 1), (words, status, heavy, errors.getvalue())
"""


def test_nothing_heavy_is_imported_to_refuse(tmp_path):
    """One wrong value and one wrong key of every setting there is, in a process of their own."""
    commands = []
    for chosen in SUBJECTS:
        for key in chosen.keys:
            refused = [value for value in DRAWING.wrong(key.type, as_text=True) if "\0" not in str(value)]
            commands += [(*chosen.words, f"{key.path}={typed(value)}") for value in refused[:1]]
            commands.append((*chosen.words, f"{key.path}s=1"))
    done = subprocess.run(
        [sys.executable, "-c", HEAVY_TOO_EARLY, json.dumps(HEAVY)],
        input=json.dumps(commands), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(commands) > 100 and not list(tmp_path.iterdir())


def round_trip(folder: Path, data: st.DataObject) -> None:
    """Right settings, written down as a run does, are read back as they were."""
    chosen = data.draw(st.sampled_from([one for one in SUBJECTS if one.command == "train" and one.keys]), "subject")
    keys = data.draw(st.lists(st.sampled_from(chosen.keys), min_size=1, max_size=5, unique=True), "keys")
    words = list(chosen.words[1:])
    for key in keys:
        words.append(f"{key.path}={json.dumps(data.draw(DRAWING.right(key.type), key.path))}")
    note(words)
    try:
        first = resolve(None, words).config
    except ConfigError as error:  # settings that are right one by one, but do not go together
        assert not any(f"{key.path}=" in str(error) for key in keys)
        assume(False)
    file = folder / "written.yaml"
    file.write_text(dump_yaml(first), encoding="utf-8")
    second = resolve(None, [f"config={file}"]).config
    file.unlink()
    assert second == first and dump_yaml(second) == dump_yaml(first)


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(1_000, marks=pytest.mark.slow)])
def test_right_settings_are_read_back(folder, examples):
    search(round_trip, folder, examples)
