"""The host: one broken plugin never takes the others down, and nothing is lost in silence."""

import types

import pytest
from goembed_core.errors import PluginError
from goembed_core.plugins import KINDS, PluginHost, hookimpl

HEAD = "from goembed_core.plugins import hookimpl\n"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("GOEMBED_DISABLE_PLUGINS", "GOEMBED_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)


def only(records, name):
    (record,) = [record for record in records if record.name == name]
    return record


def test_a_working_plugin_is_listed_and_built(site):
    site.offer("goembed-blur", "blur", "forward-model:blur", "encoder:blur")
    host = PluginHost(site.entry_points())
    record = only(host.records, "blur")
    assert (record.distribution, record.version, record.status) == ("goembed-blur", "0.1.0", "ok")
    assert record.provides == ("forward-model:blur", "encoder:blur")
    assert host.build("forward-model", "blur", {"size": 3}).config.size == 3
    assert host.build("forward-model", "goembed-blur:blur").config.size == 1
    settings = host.get("forward-model", "blur").load_config()(size=4)
    assert host.build("forward-model", "blur", settings).config is settings


BROKEN = {
    "raises": ("raise RuntimeError('no such\\nlibrary')", "RuntimeError: no such library"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "missing": ("import module_that_is_not_there", "No module named 'module_that_is_not_there'"),
    "signature": (HEAD + "@hookimpl\ndef goembed_register(registry): ...", "can not be found in the hookspec"),
    "misspelt": (HEAD + "@hookimpl\ndef goembed_registr(register): ...", "unknown hook 'goembed_registr'"),
    "unmarked": ("def goembed_register(register): ...", "is it missing its @hookimpl?"),
    "kind": (
        HEAD + "@hookimpl\ndef goembed_register(register): register('forward_model', 'x', 'a:b')",
        "kind 'forward_model' is not one of forward-model, encoder, denoiser, dataset, task, feature-network, "
        "radiance-field, converter, command, viewable; did you mean 'forward-model'?",
    ),
    "object": (
        HEAD + "@hookimpl\ndef goembed_register(register): register('task', 'x', dict)",
        "target=<class 'dict'> of task 'x' must be a string 'module:attribute'",
    ),
    "reference": (
        HEAD + "@hookimpl\ndef goembed_register(register): register('task', 'x', 'a:b', config='a.b')",
        "config='a.b' of task 'x' must be a string 'module:attribute'",
    ),
    "twice": (
        HEAD + "@hookimpl\ndef goembed_register(register): [register('task', 'x', 'a:b') for _ in range(2)]",
        "task 'x' is registered twice",
    ),
    "halfway": (
        HEAD + "@hookimpl\ndef goembed_register(register): register('task', 'x', 'a:b'); 1 / 0",
        "ZeroDivisionError",
    ),
    "name": (
        HEAD + "@hookimpl\ndef goembed_register(register): register('task', 'a:b', 'a:b')",
        "task name 'a:b' must be non-empty, without ':' and '='",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_recorded_and_the_others_work(site, fault):
    source, reason = BROKEN[fault]
    site.install("goembed-broken", "broken", source, version="0.3.0")
    site.offer("goembed-blur", "zz-after-it", "forward-model:blur")
    host = PluginHost(site.entry_points())
    record = only(host.records, "broken")
    assert record.status == "failed"
    assert reason in record.reason
    assert "\n" not in record.reason
    assert record.provides == ()
    assert host.names("task") == []
    assert host.names("forward-model") == ["blur"]
    with pytest.raises(PluginError) as error:
        host.get("task", "x")
    assert f"plugin 'broken' (goembed-broken 0.3.0) failed: {record.reason}" in str(error.value)


@pytest.mark.parametrize("fault", BROKEN)
def test_strict_raises(site, monkeypatch, fault):
    site.install("goembed-broken", "broken", BROKEN[fault][0])
    monkeypatch.setenv("GOEMBED_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match=r"plugin 'broken' \(goembed-broken 0.1.0\) failed: "):
        PluginHost(site.entry_points())


def test_two_distributions_with_one_plugin_name_are_both_named(site):
    site.offer("goembed-blur", "blur", "forward-model:blur")
    site.offer("other-blur", "blur", "forward-model:blur", version="2.0")
    host = PluginHost(site.entry_points())
    assert [record.status for record in host.records] == ["duplicate", "duplicate"]
    assert {record.distribution for record in host.records} == {"goembed-blur", "other-blur"}
    for record in host.records:
        assert "goembed-blur 0.1.0" in record.reason
        assert "other-blur 2.0" in record.reason
    assert host.names("forward-model") == []
    with pytest.raises(PluginError, match=r"'blur' is claimed by .* and by .*; uninstall one"):
        host.get("forward-model", "blur")
    with pytest.raises(PluginError, match="duplicate"):
        PluginHost(site.entry_points(), strict=True)


def test_blocking_one_of_two_duplicates_lets_the_other_in(site, monkeypatch):
    site.offer("goembed-blur", "blur", "forward-model:blur")
    site.offer("other-blur", "blur", "forward-model:blur")
    monkeypatch.setenv("GOEMBED_DISABLE_PLUGINS", "other-blur, unknown")
    host = PluginHost(site.entry_points())
    assert {record.distribution: record.status for record in host.records} == {
        "goembed-blur": "ok",
        "other-blur": "blocked",
    }
    assert host.get("forward-model", "blur").distribution == "goembed-blur"


def test_a_blocked_plugin_is_not_imported(site):
    site.install("goembed-broken", "broken", "raise AssertionError('imported')")
    host = PluginHost(site.entry_points(), disabled=["broken"], strict=True)
    assert only(host.records, "broken").status == "blocked"
    with pytest.raises(PluginError, match="blocked: named in GOEMBED_DISABLE_PLUGINS"):
        host.get("task", "x")


def test_the_range_of_core_is_compared_with_the_installed_one(site):
    site.offer("goembed-old", "old", "forward-model:old", requires=("goembed-core<0.0.9,>=0.0.1", "torch"))
    site.offer("goembed-new", "new", "forward-model:new", requires=("goembed-core>=0.1",))
    site.offer("goembed-extra", "extra", "forward-model:extra", requires=('goembed-core<0.0.9 ; extra == "old"',))
    host = PluginHost(site.entry_points())
    assert only(host.records, "old").status == "failed"
    assert "goembed-old 0.1.0 wants goembed-core<0.0.9,>=0.0.1, found 0." in only(host.records, "old").reason
    assert host.names("forward-model") == ["extra", "new"]


def test_an_ambiguous_component_must_be_qualified(site):
    site.offer("goembed-blur", "blur", "forward-model:blur")
    site.offer("other-blur", "other", "forward-model:blur", "forward-model:sharpen")
    host = PluginHost(site.entry_points())
    with pytest.raises(PluginError) as error:
        host.get("forward-model", "blur")
    assert str(error.value) == (
        "forward model 'blur' is offered by 2 plugins; say 'goembed-blur:blur' or 'other-blur:blur'"
    )
    assert host.names("forward-model") == ["goembed-blur:blur", "other-blur:blur", "sharpen"]
    assert host.get("forward-model", "other-blur:blur").distribution == "other-blur"
    assert host.get("forward-model", "other:blur").distribution == "other-blur"  # by plugin


def test_an_unknown_name_lists_what_there_is(site):
    site.offer("goembed-blur", "blur", "forward-model:blur", "forward-model:warp", "encoder:embed")
    host = PluginHost(site.entry_points())
    with pytest.raises(PluginError) as error:
        host.get("forward-model", "blurr")
    assert str(error.value) == ("forward model 'blurr' is not registered; did you mean 'blur'?; available: blur, warp")
    with pytest.raises(PluginError, match="; as 'embed' there is: encoder"):
        host.get("forward-model", "embed")


def test_a_known_task_names_the_package_that_has_it():
    with pytest.raises(PluginError) as error:
        PluginHost([]).get("task", "gan_inversion")
    assert str(error.value) == (
        "task 'gan_inversion' is not registered; available: none; it is part of goembed-gan-inversion: "
        "`uv pip install goembed-gan-inversion`"
    )
    with pytest.raises(PluginError, match="did you mean 'gan_inversion'"):
        PluginHost([]).get("task", "gan_inversio")


def test_an_unknown_kind_is_refused():
    with pytest.raises(PluginError, match=r"kind 'datasets' is not one of .*; did you mean 'dataset'"):
        PluginHost([]).names("datasets")
    assert len(KINDS) == len(set(KINDS))


@pytest.mark.parametrize(
    ("target", "cause"),
    [("no_such_module:A", "ModuleNotFoundError: No module named 'no_such_module'"), ("math:Tau", "AttributeError: ")],
)
def test_a_target_that_cannot_be_imported(site, target, cause):
    body = f"register('encoder', 'x', '{target}')"
    site.install("goembed-x", "x", HEAD + f"@hookimpl\ndef goembed_register(register): {body}")
    with pytest.raises(PluginError) as error:
        PluginHost(site.entry_points()).build("encoder", "x")
    assert str(error.value).startswith(f"encoder 'x' of goembed-x 0.1.0 cannot be loaded from '{target}': {cause}")


class Late:
    """A plugin as an object, as one would write it in a notebook."""

    def __init__(self, name):
        self.name = name

    @hookimpl
    def goembed_register(self, register):
        register("converter", self.name, "math:sqrt")


def test_late_registration_replaces_what_was_registered_under_the_name(site):
    site.offer("goembed-blur", "blur", "forward-model:blur")
    host = PluginHost(site.entry_points())
    assert host.register_module(Late("a"), "mine").provides == ("converter:a",)
    host.register_module(Late("b"), "mine")
    assert host.names("converter") == ["b"]
    assert host.get("converter", "mine:b").load() is __import__("math").sqrt
    with pytest.raises(PluginError, match=r"plugin 'blur' is installed as goembed-blur 0\.1\.0"):
        host.register_module(Late("c"), "blur")
    with pytest.raises(PluginError, match="has no goembed_register"):
        host.register_module(types.ModuleType("empty"))
    assert host.names("forward-model") == ["blur"]


def test_a_component_without_settings_takes_none(site):
    body = "register('encoder', 'x', 'builtins:object')"
    site.install("goembed-x", "x", HEAD + f"@hookimpl\ndef goembed_register(register): {body}")
    host = PluginHost(site.entry_points())
    assert type(host.build("encoder", "x")) is object
    with pytest.raises(Exception, match="encoder 'x' has no settings, got size"):
        host.build("encoder", "x", {"size": 1})
