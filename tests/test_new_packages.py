"""What `goembed new` writes is installed as it is, found by the host, and its own tests pass."""

from __future__ import annotations

import json
import re

import pytest

KINDS = ("forward-model", "encoder", "denoiser", "dataset", "radiance-field", "task")


@pytest.fixture(scope="module")
def packages(overlay):
    """One package of each kind, installed."""
    names = [f"new-{kind}" for kind in KINDS]
    for kind, name in zip(KINDS, names, strict=True):
        overlay.run("goembed", "new", kind, name)
    overlay.run("uv", "pip", "install", *(word for name in names for word in ("-e", f"goembed-{name}")))
    return overlay


def passed(output: str) -> int:
    """How many tests of a run passed, once none failed."""
    summary = output.strip().splitlines()[-1]
    assert " failed" not in summary and " error" not in summary, output
    return int(re.search(r"(\d+) passed", summary)[1])


def test_the_host_finds_them(packages):
    records = {record["name"]: record for record in json.loads(packages.run("goembed", "plugins", "--json"))}
    for kind in KINDS:
        record = records[f"new-{kind}"]
        assert (record["distribution"], record["status"]) == (f"goembed-new-{kind}", "ok")
        assert record["provides"][0] == f"{kind}:new-{kind}".replace("task:new-", "task:new_")
    refused = packages.run("goembed", "new", "encoder", "new-encoder", status=2)
    assert refused == (
        "error: NAME='new-encoder': there is a plugin 'new-encoder' of goembed-new-encoder 0.1.0; choose another name\n"
    )


@pytest.mark.slow  # without an installation: packages/core/tests/test_new_components.py
def test_the_components_pass_their_tests(packages):
    folders = [f"goembed-new-{kind}" for kind in KINDS if kind != "task"]
    output = packages.run(
        "python", "-m", "pytest", "-q", "--import-mode=importlib", "-W", "error", "-p", "no:cacheprovider", *folders
    )
    assert passed(output) >= 4 * 10


@pytest.mark.slow
def test_the_task_passes_its_tests(packages):
    output = packages.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "goembed-new-task")
    assert passed(output) >= 20


@pytest.mark.slow
def test_the_wheels_have_what_they_need(packages):
    for kind in KINDS:
        output = packages.run("uv", "build", "--wheel", "--out-dir", "dist", f"goembed-new-{kind}")
        assert f"goembed_new_{kind.replace('-', '_')}-0.1.0-py3-none-any.whl" in output
