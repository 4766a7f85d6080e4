"""`goembed doctor`, the half without torch: python, plugins, versions."""

import pytest
from goembed_core import plugins
from goembed_core.doctor import finding, installation


@pytest.fixture
def at(site, monkeypatch):
    """A site whose plugins are all that the host knows."""
    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", lambda group: site.entry_points())
    plugins.host.cache_clear()
    yield site
    plugins.host.cache_clear()


def told(findings):
    return [(f.name, f.status, f.detail, f.remedy) for f in findings]


def test_plugins_and_what_to_do_about_them(at, monkeypatch):
    at.offer("goembed-blur", "blur", "forward-model:blur", "encoder:blur")
    at.install("goembed-broken", "broken", "import no_such_module", version="0.3")
    at.offer("goembed-old", "old", requires=("goembed-core<0.0.9",))
    at.offer("goembed-a", "same", version="1.0")
    at.offer("goembed-b", "same", version="2.0")
    at.offer("goembed-quiet", "quiet")
    monkeypatch.setenv("GOEMBED_DISABLE_PLUGINS", "quiet")
    found = {name: rest for name, *rest in told(installation.check_plugins())}
    core = installation.importlib.metadata.version("goembed-core")
    assert found == {
        "plugin blur": ["ok", "goembed-blur 0.1.0, 2 components", ""],
        "plugin broken": [
            "failed",
            "goembed-broken 0.3: ModuleNotFoundError: No module named 'no_such_module'",
            "update or reinstall it: uv pip install --reinstall goembed-broken, or leave it out: "
            "GOEMBED_DISABLE_PLUGINS=broken",
        ],
        "plugin old": [
            "failed",
            f"goembed-old 0.1.0: goembed-old 0.1.0 wants goembed-core<0.0.9, found {core}",
            "install versions that agree: uv pip install --upgrade goembed-core goembed-old",
        ],
        "plugin same": [
            "failed",
            "goembed-b 2.0: plugin name 'same' is claimed by goembed-a 1.0 and by goembed-b 2.0",
            "uninstall one, or set GOEMBED_DISABLE_PLUGINS to one of the distributions",
        ],
        "plugin quiet": ["skipped", "goembed-quiet 0.1.0: named in GOEMBED_DISABLE_PLUGINS", ""],
    }


def test_requirements_that_are_not_met(at):
    wanted = (
        "numpy<0.1",
        "no-such-thing>=2",
        "pydantic>=1",
        'never; extra == "never"',
        'never2; python_version < "3"',
        "not a requirement at all",
        "Goembed_Deep[more]",
    )
    at.offer("goembed-blur", "blur", requires=wanted)
    at.offer("goembed-deep", "deep", version="3.0", requires=('gone-too; extra == "more"', "goembed-blur>=0.2"))
    numpy = installation.importlib.metadata.version("numpy")
    found = told(installation.conflicts(["goembed-blur"]))
    assert found == [
        (
            "versions",
            "failed",
            f"goembed-blur 0.1.0 wants numpy<0.1, found {numpy}",
            "uv pip install 'numpy<0.1', or another version of goembed-blur",
        ),
        (
            "versions",
            "failed",
            "goembed-blur 0.1.0 wants no-such-thing>=2, which is not installed",
            "uv pip install 'no-such-thing>=2'",
        ),
        ("versions", "failed", "goembed-deep 3.0 wants gone-too, which is not installed", "uv pip install 'gone-too'"),
        (
            "versions",
            "failed",
            "goembed-deep 3.0 wants goembed-blur>=0.2, found 0.1.0",
            "uv pip install 'goembed-blur>=0.2', or another version of goembed-deep",
        ),
    ]


def test_this_installation_is_whole():
    plugins.host.cache_clear()
    assert told(installation.check_versions()) == [
        ("versions", "ok", "all requirements of core and plugins are met", "")
    ]
    ((_, status, detail, _),) = told(installation.check_python())
    assert status == "ok" and detail.endswith(", >=3.11 is wanted")


def test_another_python_is_wanted(monkeypatch):
    monkeypatch.setattr(installation.platform, "python_version", lambda: "3.8.1")
    assert told(installation.check_python()) == [
        (
            "python",
            "failed",
            "3.8.1, >=3.11 is wanted",
            "make an environment of Python >=3.11: uv venv --python 3.11",
        )
    ]


def test_a_check_that_fails_is_a_finding_and_ends_no_other():
    def check_moon():
        yield finding.Finding("moon", "ok", "is up")
        raise RuntimeError("no\nmoon")

    assert [str(f) for f in finding.guarded(check_moon)] == [
        "ok      moon: is up",
        "failed  moon: RuntimeError: no moon\n        -> this is a defect of `goembed doctor`; please report it",
    ]
