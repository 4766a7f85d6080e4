"""What crosses packages: metadata, who may import whom, and what the project never contains."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cached_property
from pathlib import Path

import pytest
from goembed_core.scaffold import KINDS, new_package
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Where a package is not called after its folder.
NAMES = {
    "datasets/images": "goembed-image-datasets",
    "datasets/multiview": "goembed-multiview-datasets",
    "datasets/videos": "goembed-video-datasets",
    "encoders/goembed": "goembed-encoder",
    "tasks/goembed-fusion": "goembed-fusion",
}
SUITES = {"tests", "benchmarks"}  # may import what the workspace's dev group has


class Package:
    """One package of the workspace."""

    def __init__(self, folder: Path, root: Path = ROOT):
        self.folder = folder
        self.place = folder.relative_to(root / "packages").as_posix()
        self.project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        self.name = self.project["name"]
        self.module = self.name.replace("-", "_")
        self.version = self.project["version"]

    def __repr__(self) -> str:
        return self.place

    @cached_property
    def requirements(self) -> dict[str, Requirement]:
        return {Requirement(line).name: Requirement(line) for line in self.project["dependencies"]}

    def file(self, module: str) -> Path:
        """Where a module of the package lies."""
        path = self.folder / "src" / Path(*module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def sources(self, *folders: str) -> list[Path]:
        return sorted(path for folder in folders for path in (self.folder / folder).rglob("*.py"))


PACKAGES = [Package(path.parent) for path in sorted(ROOT.glob("packages/**/pyproject.toml"))]
CORE = next(package for package in PACKAGES if package.name == "goembed-core")
PLUGINS = [package for package in PACKAGES if "entry-points" in package.project]
BY_MODULE = {package.module: package for package in PACKAGES}

each_package = pytest.mark.parametrize("package", PACKAGES, ids=repr)
each_plugin = pytest.mark.parametrize("package", PLUGINS, ids=repr)


def imported_modules(path: Path) -> set[str]:
    """The dotted names that a file imports, at its head or within."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
    return found


def defined_names(path: Path) -> set[str]:
    """What a module has at its top level."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def project_files() -> list[Path]:
    """Every file that is, or would be, committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout: lists the files that git knows")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    output = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in output.split("\0") if name and (ROOT / name).is_file()]


def test_there_are_packages():
    assert len(PACKAGES) == len(BY_MODULE) >= 5
    assert set(PACKAGES) - set(PLUGINS) <= {CORE}


@each_package
def test_a_package_is_named_after_its_place(package):
    assert package.name == NAMES.get(package.place, f"goembed-{package.folder.name}")
    assert (package.folder / "src" / package.module / "__init__.py").is_file()
    members = WORKSPACE["tool"]["uv"]["workspace"]["members"]
    assert any(package.folder.match(f"packages/{member.removeprefix('packages/')}") for member in members)


@each_package
def test_metadata_is_alike(package):
    assert package.project["requires-python"] == CORE.project["requires-python"]
    assert package.project["license"] == "Apache-2.0"
    assert package.project["description"].strip(".") == package.project["description"]
    build = tomllib.loads((package.folder / "pyproject.toml").read_text())["build-system"]
    assert build == tomllib.loads((CORE.folder / "pyproject.toml").read_text())["build-system"]


@each_package
def test_readme_changelog_and_tests(package):
    assert (package.folder / "README.md").read_text().startswith(f"# {package.name}\n")
    newest = re.search(r"^## (\S+)", (package.folder / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest, "CHANGELOG.md has no version"
    assert newest[1] == package.version
    assert list((package.folder / "tests").rglob("test_*.py")), "the package has no tests"


@each_package
def test_the_readme_has_a_short_example_that_a_test_runs(package):
    blocks = re.findall(r"^```python\n(.*?)^```", (package.folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks, "no example"
    assert sum(bool(line.strip()) for line in blocks[0].splitlines()) <= 6
    suite = (package.folder / "tests" / "test_readme.py").read_text()
    assert "exec(" in suite and "README" in suite and "```python" in suite


@each_plugin
def test_a_plugin_has_one_entry_point(package):
    ((name, module),) = package.project["entry-points"]["goembed"].items()
    assert f"goembed-{name}" == package.name
    assert package.file(module).is_file()
    assert package is CORE or module == f"{package.module}.plugin"


@each_package
def test_ranges_between_packages_hold(package):
    """uv does not compare them within a workspace."""
    for name, requirement in package.requirements.items():
        if name in {other.name for other in PACKAGES}:
            other = next(other for other in PACKAGES if other.name == name)
            major, minor = other.version.split(".")[:2]
            assert str(requirement.specifier) == f"<{major}.{int(minor) + 1},>={major}.{minor}", name
    assert package is CORE or "goembed-core" in package.requirements


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_fits_the_workspace(kind, tmp_path):
    for name in ("pyproject.toml", "packages/core/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    package = Package(new_package(kind, f"fresh-{kind}", tmp_path).folder, tmp_path)
    assert package.place == f"{kind}s/fresh-{kind}"
    test_a_package_is_named_after_its_place(package)
    test_metadata_is_alike(package)
    test_readme_changelog_and_tests(package)
    test_the_readme_has_a_short_example_that_a_test_runs(package)
    test_a_plugin_has_one_entry_point(package)
    test_ranges_between_packages_hold(package)
    for suite in (False, True):
        test_a_package_imports_only_what_it_declares(package, suite)


def test_the_workspace_lists_each_package():
    assert WORKSPACE["tool"]["uv"]["sources"] == {package.name: {"workspace": True} for package in PACKAGES}


def test_pins_are_exact_and_name_no_host():
    pins = [Requirement(line) for line in WORKSPACE["tool"]["uv"]["constraint-dependencies"]]
    assert all(len(pin.specifier) == 1 and pin.url is None for pin in pins)
    assert all(spec.operator == "==" and "+" not in spec.version for pin in pins for spec in pin.specifier)
    pinned = {pin.name for pin in pins}
    wanted = {name for package in PACKAGES for name in package.requirements if not name.startswith("goembed-")}
    assert wanted <= pinned, "run scripts/pin.py"


def allowed_distributions(package: Package, suite: bool) -> set[str]:
    """What the package declares, extras included; its tests may also use the dev group, and what siblings declare."""
    extras = package.project.get("optional-dependencies", {})
    allowed = {package.name, *package.requirements, *(Requirement(line).name for e in extras.values() for line in e)}
    if suite:
        allowed |= {Requirement(line).name for line in WORKSPACE["dependency-groups"]["dev"]}
        allowed |= {name for other in PACKAGES if other.name in package.requirements for name in other.requirements}
    return {name.lower().replace("_", "-") for name in allowed}


@each_package
@pytest.mark.parametrize("suite", [False, True], ids=["src", "suites"])
def test_a_package_imports_only_what_it_declares(package, suite):
    distributions = importlib.metadata.packages_distributions()
    allowed = allowed_distributions(package, suite)
    undeclared = []
    for path in package.sources(*(SUITES if suite else ["src"])):
        for name in imported_modules(path):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "__future__":
                continue
            owners = {owner.lower().replace("_", "-") for owner in distributions.get(top, [top])}
            if not owners & allowed:
                undeclared.append(f"{path.relative_to(ROOT)} imports {name}")
    assert undeclared == []


@each_package
def test_nobody_imports_a_task_and_core_no_plugin(package):
    for path in package.sources("src", "tests", "benchmarks"):
        for name in imported_modules(path):
            other = BY_MODULE.get(name.partition(".")[0], package)
            if other is package:
                continue
            where = f"{path.relative_to(ROOT)} imports {name}"
            assert package is not CORE, where
            assert not other.place.startswith("tasks/"), where


@each_plugin
def test_every_registered_reference_exists(package):
    (module,) = package.project["entry-points"]["goembed"].values()
    references = [
        node.value
        for node in ast.walk(ast.parse(package.file(module).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.]+:\w+", node.value)
    ]
    assert references
    for reference in references:
        module, _, attribute = reference.partition(":")
        path = BY_MODULE[module.partition(".")[0]].file(module)
        assert path.is_file(), reference
        assert attribute in defined_names(path), reference


LIGHT = """
import json, sys
from goembed_core.config import resolve
from goembed_core.plugins import host
for component in host().components:
    component.load_config(), component.load_presets(), component.load_sample_config()
    if component.kind == "task":
        for preset in component.load_presets():
            resolve(component.name, [f"preset={preset}"])
print(json.dumps([sorted({"torch", "numpy", "diffusers"} & set(sys.modules)), [str(r) for r in host().records]]))
"""


def test_plugins_settings_and_presets_need_no_torch():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heavy, records = json.loads(done.stdout)
    assert heavy == []
    assert {f"{package.name} {package.version}" for package in PLUGINS} <= set(records)  # beside third parties'


def test_every_installed_plugin_works():
    done = subprocess.run(
        [sys.executable, "-m", "goembed_core", "plugins", "--json"], capture_output=True, text=True, check=True
    )
    records = {record["distribution"]: record for record in json.loads(done.stdout)}
    for package in PLUGINS:
        assert records[package.name]["status"] == "ok", records[package.name]["reason"]
        assert records[package.name]["provides"]


def test_known_components_are_where_the_host_says():
    from goembed_core.first_party import FIRST_PARTY
    from goembed_core.plugins import host

    for (kind, name), distribution in FIRST_PARTY.items():
        assert host().get(kind, name).distribution == distribution
    own = {package.name for package in PACKAGES}
    tasks = {(c.kind, c.name) for c in host().components if c.kind == "task" and c.distribution in own}
    assert tasks <= FIRST_PARTY.keys()


def test_ci_runs_the_commands_of_the_readme():
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("pip install uv && ")]
    assert commands == ["pip install uv && uv run goembed train task=gan_inversion", "pip install uv && uv run pytest"]
    script = (ROOT / ".ci" / "run").read_text()
    assert [line for line in script.splitlines() if "pytest" in line] == [commands[1]]
    assert script.splitlines()[-1] == commands[1]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_the_readme_lists_each_package():
    text = (ROOT / "README.md").read_text()
    for package in PACKAGES:
        assert f"| [{package.name}](packages/{package.place}) |" in text


def test_the_lock_is_not_kept():
    assert ROOT / "uv.lock" not in project_files()


def test_no_file_names_a_machine():
    paths = re.compile(r"(?<![\w.:/])/(?:work|opt|root|home|Users|mnt|scratch)/\w")
    found = []
    for path in project_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in paths.finditer(text)]
        if path.name in ("pyproject.toml", "run", "pin.py"):
            assert "://" not in text, f"{path.relative_to(ROOT)} names a host"
    assert found == []
