"""Every command that a page prints has words and settings that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from goembed_core.checking import component_factory, find
from goembed_core.cli import make_parser
from goembed_core.config import resolve, resolve_model
from goembed_core.plugins import host

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("packages/**/README.md"))
    if ".venv" not in page.parts
)
MADE_UP = {"blur", "deblur", "my-field", "tomography", "NAME", "KIND"}  # what the reader is about to write


def commands(page: Path) -> list[list[str]]:
    """The words after `goembed` of every command, in blocks and within lines."""
    text = page.read_text()
    fenced = "\n".join(re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    lines = [*fenced.splitlines(), *(found.replace("\n", " ") for found in re.findall(r"`([^`]+)`", prose))]
    found = (re.match(r"\s*(?:uv run )?goembed (?!-)(.*)", line) for line in lines)
    words = [shlex.split(match[1], comments=True) for match in found if match]
    return [line[: line.index("then")] if "then" in line else line for line in words]


def is_told(word: str) -> bool:
    """Whether a word says itself, rather than standing for others: `[key=value ...]`, `KEY=X`, `…`."""
    return not re.search(r"^\[|^\.\.\.|…|[<>|]|^key=|^[A-Z]+$|=$", word)


def told(words: list[str]) -> list[str]:
    return [word for word in words if is_told(word) and (not word.startswith("-") or "=" in word)]


def unwritten(words: list[str]) -> bool:
    return any(set(re.split("[=/]", word)) & MADE_UP for word in words)


CASES = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)}") for page in PAGES for words in commands(page)
]


def test_there_are_commands():
    assert len(CASES) > 70
    assert {case.values[0][0] for case in CASES if case.values[0]} >= {"train", "sample", "evaluate", "view", "check"}


@pytest.mark.parametrize("words", CASES)
def test_what_is_printed_can_be_typed(words, monkeypatch):
    monkeypatch.delenv("GOEMBED_DATA", raising=False)
    if not words or words == ["NAME"]:
        return
    command, *rest = words
    assert command in make_parser()[1]
    if unwritten(rest):
        return
    settings = told(rest)
    if command in ("train", "config") and any(word.startswith("task=") for word in settings):
        resolve(None, [word for word in settings if "=" in word and not word.startswith("config=")])
    run = next((re.match(r"runs/(\w+)/", word) for word in settings if word.startswith("runs/")), None)
    tasks = [word.partition("=")[2] for word in settings if word.startswith("task=")] + ([run[1]] if run else [])
    assert set(tasks) <= set(host().names("task"))
    overrides = [word for word in settings if "=" in word and not word.startswith("task=")]
    if command == "sample" and tasks:
        resolve_model(host().get("task", tasks[0]).load_sample_config(), overrides)
    if command == "evaluate" and tasks:
        resolve(None, [f"task={tasks[0]}", *overrides])
    if command == "check" and len(settings) > 1:
        component_factory(find(*settings[:2]), settings[2:])
    if command == "convert" and settings:
        host().get("converter", settings[0])
    if command in ("view", "render-meshes", "check-cameras"):
        model = host().get("command", command).load_config()
        assert {word.partition("=")[0].split(".")[0] for word in overrides} <= set(model.model_fields)
