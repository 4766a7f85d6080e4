"""`goembed new`: what it writes, where, and what it refuses before anything is written."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from goembed_core import cli, plugins
from goembed_core.scaffold import KINDS, new_package, write


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """An empty folder, and a host that knows no plugin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", lambda group: [])
    plugins.host.cache_clear()
    yield tmp_path
    plugins.host.cache_clear()


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def code_lines(path: Path) -> int:
    """Lines of Python that are neither blank nor comment nor docstring."""
    text = path.read_text()
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = enumerate(text.splitlines(), 1)
    return sum(number not in docstrings and line.strip()[:1] not in ("", "#") for number, line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_written(alone, capsys, kind):
    assert cli.main(["new", kind, "two-words"]) == 0
    folder = alone / "goembed-two-words"
    assert capsys.readouterr().out.startswith(f"wrote {folder}\nnext:\n  uv pip install -e goembed-two-words\n")
    files = written(folder)
    assert {"README.md", "CHANGELOG.md", "pyproject.toml", "src/goembed_two_words/plugin.py"} < set(files)
    assert written(alone) == [f"goembed-two-words/{name}" for name in files]
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["goembed"] == {"two-words": "goembed_two_words.plugin"}
    assert project["project"]["dependencies"][0] == "goembed-core>=0.1,<0.2"
    core = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["build-system"] == core["build-system"]
    assert project["project"]["requires-python"] == core["project"]["requires-python"]
    assert set(project["project"]["dependencies"][1:]) <= set(core["project"]["dependencies"]) | {
        "matplotlib>=3.9",
        "goembed-nerf-renderer>=0.1,<0.2",
    }
    text = "".join((folder / name).read_text() for name in files)
    assert "$" not in text
    assert all((folder / name).read_text().endswith("\n") for name in files)
    assert not any((folder / name).read_text().endswith("\n\n") for name in files)
    assert max(map(len, "".join((folder / n).read_text() for n in files if n.endswith(".py")).splitlines())) <= 120


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "task"])
def test_a_package_is_small(alone, kind):
    folder = new_package(kind, "blur").folder
    sources = list((folder / "src").rglob("*.py"))
    assert len((folder / "src/goembed_blur/plugin.py").read_text().splitlines()) <= 40
    assert len((folder / "tests/test_conformance.py").read_text().split("\n\n\n")) == 2
    assert code_lines(folder / "tests/test_conformance.py") <= 6
    if kind == "forward-model":
        assert sum(map(code_lines, sources)) <= 40
    (example,) = (folder / "README.md").read_text().split("```python\n")[1:]
    assert sum(bool(line.strip()) for line in example.partition("```")[0].splitlines()) <= 6


def test_registered_references_exist(alone):
    for kind in KINDS:
        folder = new_package(kind, f"my-{kind}").folder
        module = f"goembed_my_{kind.replace('-', '_')}"
        tree = ast.parse((folder / "src" / module / "plugin.py").read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "register"]
        assert calls[0].args[0].value == kind
        references = [
            argument.value
            for call in calls
            for argument in [*call.args, *(keyword.value for keyword in call.keywords)]
            if ":" in argument.value
        ]
        assert len(references) >= 2
        for reference in references:
            path, _, attribute = reference.partition(":")
            source = (folder / "src" / Path(*path.split("."))).with_suffix(".py").read_text()
            assert any(f"{word} {attribute}" in f"\n{source}" for word in ("\nclass", "\ndef")) or (
                f"\n{attribute} = " in source
            )


REFUSED = {
    "Blur": "NAME='Blur': expected lower-case words joined by '-', such as motion-blur; did you mean 'blur'?",
    "motionBlur": "NAME='motionBlur': expected lower-case words joined by '-', such as motion-blur; did you mean "
    "'motion-blur'?",
    "../blur": "NAME='../blur': expected lower-case words joined by '-', such as motion-blur; did you mean 'blur'?",
    "2d": "NAME='2d': expected lower-case words joined by '-', such as motion-blur",
    "": "NAME='': expected lower-case words joined by '-', such as motion-blur",
    "goembed-blur": "NAME='goembed-blur': the package will be called goembed-NAME; did you mean 'blur'?",
    "none": "NAME='none': None is a word of Python's own; choose another name",
    "tensor": "NAME='tensor': the package needs the name Tensor for something else; choose another name",
    "width": "NAME='width': the package needs the name Width for something else; choose another name",
    "core": "NAME='core': there is a module goembed_core; choose another name",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_name_is_one_line_and_nothing_is_written(alone, capsys, name):
    assert cli.main(["new", "forward-model", name]) == 2
    assert capsys.readouterr() == ("", f"error: {REFUSED[name]}\n")
    assert written(alone) == []


def test_an_unknown_kind_is_refused(alone, capsys):
    assert cli.main(["new", "forward_model", "blur"]) == 2
    assert capsys.readouterr().err == (
        "error: KIND='forward_model' is not one of forward-model, encoder, denoiser, dataset, radiance-field, "
        "task; did you mean 'forward-model'?\n"
    )
    assert cli.main(["new", "forward-model", "blur", "more"]) == 2
    assert capsys.readouterr().err == "error: unexpected 'more'\n"
    assert written(alone) == []


def test_what_is_there_is_left_alone(alone, capsys):
    (alone / "goembed-blur").mkdir()
    (alone / "goembed-blur" / "mine.txt").write_text("mine")
    assert cli.main(["new", "forward-model", "blur"]) == 2
    assert capsys.readouterr().err == "error: goembed-blur exists; choose another name, or remove it\n"
    assert written(alone) == ["goembed-blur/mine.txt"]


def test_a_folder_that_cannot_be_written(alone, capsys, monkeypatch):
    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert cli.main(["new", "forward-model", "blur"]) == 2
    assert capsys.readouterr().err == "error: goembed-blur cannot be written: Permission denied\n"
    assert list(alone.iterdir()) == []


def test_names_that_are_taken(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "encoder", "toy"]) == 2
    assert capsys.readouterr().err == (
        "error: NAME='toy': there is a plugin 'toy' of goembed-toy 0.1.0; choose another name\n"
    )
    assert cli.main(["new", "forward-model", "blur"]) == 2
    assert capsys.readouterr().err == (
        "error: NAME='blur': there is a forward model 'blur' of goembed-toy 0.1.0; choose another name\n"
    )
    assert cli.main(["new", "encoder", "blur"]) == 0


def test_inside_the_workspace_it_goes_to_its_group(alone, capsys, monkeypatch):
    (alone / "packages/core").mkdir(parents=True)
    (alone / "pyproject.toml").write_text('[tool.uv.workspace]\nmembers = ["packages/core"]\n')
    (alone / "packages/core/pyproject.toml").write_text('[project]\nname = "goembed-core"\n')
    monkeypatch.chdir(alone / "packages")
    assert cli.main(["new", "task", "deep-blur"]) == 0
    folder = alone / "packages/tasks/deep-blur"
    assert capsys.readouterr().out == (
        f"wrote {folder}\nnext:\n"
        "  add to [tool.uv.sources] of pyproject.toml: goembed-deep-blur = { workspace = true }\n"
        "  add to the packages of README.md: | [goembed-deep-blur](packages/tasks/deep-blur) | `task:deep_blur` | "
        "Images of discs that explain one observation of them |\n"
        "  uv run pytest packages/tasks/deep-blur\n"
        "  uv run goembed train task=deep_blur\n"
    )
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["license"] == "Apache-2.0"
    assert project["tool"].keys() == {"uv"} and project["tool"]["uv"].keys() == {"build-backend"}


class Core:
    """The installed core, as its record says where it came from."""

    def __init__(self, record):
        self.record = record

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.record


def test_a_core_that_is_not_published_is_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "a b").mkdir()
    (tmp_path / "core.whl").touch()
    records = {
        "folder": (tmp_path / "a b").as_uri(),
        "wheel": (tmp_path / "core.whl").as_uri(),
        "gone": (tmp_path / "gone").as_uri(),
        "index": None,
    }
    found = {}
    for name, address in records.items():
        core = Core(None if address is None else json.dumps({"url": address}))
        monkeypatch.setattr(write.importlib.metadata, "distribution", lambda name, core=core: core)
        found[name] = write._source("goembed-core", tmp_path / "goembed-blur")
    assert found == {
        "folder": 'path = "../a b", editable = true',
        "wheel": 'path = "../core.whl"',
        "gone": "",
        "index": "",
    }


def test_it_is_light(alone):
    code = (
        "import sys; from goembed_core import cli; assert cli.main(['new', 'task', 'zz-light']) == 0;"
        "assert not {'torch', 'numpy', 'diffusers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
