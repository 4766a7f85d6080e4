"""The command line: what it hands on, what it prints, and that it is light."""

import errno
import json
import os
import subprocess
import sys
import types

import goembed_core
import pytest
from goembed_core import cli
from goembed_core.config import dump_yaml, resolve
from goembed_core.config.yaml import load_yaml
from goembed_core.errors import UserError
from goembed_core.signals import Interrupted


@pytest.fixture
def runner(toy, monkeypatch):
    """Takes the place of the heavy half, and keeps what it was called with."""
    module = types.ModuleType("goembed_core.runner")
    module.calls = []
    for name in ("train", "sample", "evaluate"):
        setattr(module, name, lambda *arguments, name=name: module.calls.append((name, *arguments)))
    monkeypatch.setitem(sys.modules, "goembed_core.runner", module)
    monkeypatch.setattr(goembed_core, "runner", module, raising=False)
    return module


@pytest.fixture
def run(toy, tmp_path):
    """The folder of an earlier run."""
    folder = tmp_path / "a=run"
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_yaml(resolve("toy", []).config))
    return folder


def refused(capsys, *argv):
    """The one line that a wrong command ends with."""
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


def test_train_hands_on_the_resolved_settings(runner):
    assert cli.main(["train", "--train.seed=3", "task=toy", "preset=paper"]) == 0
    ((name, resolved),) = runner.calls
    assert (name, resolved.config.train.seed, resolved.config.train.images) == ("train", 3, 5000)
    assert resolved.component.name == "toy"
    assert cli.train_main(["task=toy"]) == 0
    assert runner.calls[1][1].config.train.images == 100


def test_sample_and_evaluate_hand_on_run_and_overrides(runner, run):
    assert cli.main(["sample", "num_samples=2", str(run), "seed=1"]) == 0
    assert cli.main(["sample", "task=toy", "--num_samples=2"]) == 0
    assert cli.main(["evaluate", str(run), "evaluate.contexts=3", "--sampler.num_steps=7"]) == 0
    assert runner.calls == [
        ("sample", run, None, ["num_samples=2", "seed=1"]),
        ("sample", None, "toy", ["--num_samples=2"]),
        ("evaluate", run, ["evaluate.contexts=3", "--sampler.num_steps=7"]),
    ]


def test_errors_are_one_line_and_nothing_runs(runner, run, capsys, tmp_path):
    assert refused(capsys, "train", "task=toy", "train.imges=3").endswith("did you mean train.images?")
    assert refused(capsys, "train", "toy") == "'toy' is not of the form key=value; did you mean task=toy?"
    assert refused(capsys, "train") == "which task? give task=NAME; available: toy"
    assert refused(capsys, "train", "--gpus", "0", "task=toy") == "--gpus=0: expected at least 1"
    assert refused(capsys, "sample") == "sample from what? give the folder of a run, or task=NAME"
    assert refused(capsys, "sample", str(run), "task=toy").startswith("sample from what?")
    assert refused(capsys, "sample", str(tmp_path)) == (
        f"{tmp_path} is not a run: it has no config.yaml; runs in it: {run}"
    )
    assert refused(capsys, "evaluate", str(tmp_path / "a-rnu")).endswith(f"no config.yaml; did you mean {run}?")
    assert refused(capsys, "sample", str(tmp_path / "zz")).endswith(f"no config.yaml; runs there: {run}")
    assert refused(capsys, "sample", str(tmp_path / "no" / "thing")).endswith("it has no config.yaml")
    assert refused(capsys, "sample", str(run), "num_smples=1").endswith("did you mean num_samples?")
    assert refused(capsys, "sample", "task=toy", "num_samples=0") == "num_samples=0: Input should be greater than 0"
    assert refused(capsys, "evaluate") == "evaluate what? give the folder of a run"
    assert refused(capsys, "evaluate", str(run), "evaluate.zzz=1").startswith("evaluate.zzz=1: there is no such key")
    assert refused(capsys, "sample", "x" * 5000).endswith(" is not a run: it has no config.yaml")
    assert refused(capsys, "sample", "task=toy", f"num_samples={'9' * 5000}").startswith("num_samples='9999")
    assert refused(capsys, "evaluate", str(run), "train.seed=3") == (
        "train.seed=3: an evaluation takes only settings under evaluate and sampler; a run keeps its others"
    )
    assert refused(capsys, "evaluate", str(run), "sampler.num_steps=0").startswith("sampler.num_steps=0: Input should")
    assert refused(capsys, "plugins", "x") == "unexpected 'x'"
    assert refused(capsys, "trian", "task=toy") == "there is no command 'trian'; did you mean 'train'?"
    assert refused(capsys, "zzz").startswith("there is no command 'zzz'; commands: train, sample, evaluate, ")
    assert refused(capsys).startswith("the following arguments are required: COMMAND; goembed --help lists")
    assert refused(capsys, "train", "task=toy", "--gpu", "2") == (
        "'--gpu' is neither an option nor of the form key=value; did you mean '--gpus'?"
    )
    assert refused(capsys, "train", "--gpus", "x").startswith("argument --gpus: invalid int value: 'x'; goembed train ")
    assert refused(capsys, "plugins", "--jsn").endswith("; did you mean '--json'?")
    assert refused(capsys, "convert", "upper", "a").startswith("the following arguments are required: OUT; ")
    assert refused(capsys, "check").startswith(
        "check what? give KIND NAME, where KIND is one of forward-model, encoder"
    )
    assert refused(capsys, "check", "task", "toy").startswith("there are no checks for kind 'task'")
    assert refused(capsys, "check", "forward-model") == (
        "which forward model? give goembed check forward-model NAME; available: blur, identity"
    )
    assert refused(capsys, "check", "forward-model", "blr").startswith("forward model 'blr' is not registered; did you")
    assert refused(capsys, "check", "forward-model", "blur", "sigma=1").endswith("did you mean sigma_px?")
    assert refused(capsys, "check", "forward-model", "blur", "sigma_px=0").startswith("sigma_px=0: Input should be")
    assert refused(capsys, "check", "forward-model", "identity", "x=1") == (
        "forward model 'identity' has no settings, got x=1"
    )
    assert refused(capsys, "convert", "uper", "a", "b").startswith(
        "converter 'uper' is not registered; did you mean 'upper'?"
    )
    assert refused(capsys, "convert", "upper", "a", "b") == "IN=a: there is no such file"
    assert runner.calls == []
    assert not (tmp_path / "runs").exists()


def test_errors_of_the_heavy_half_are_one_line_too(runner, capsys):
    def fail(resolved):
        raise UserError("run.dir=x holds another run")

    runner.train = fail
    assert refused(capsys, "train", "task=toy") == "run.dir=x holds another run"


@pytest.mark.parametrize(
    ("number", "path", "said"),
    [
        (errno.ENOSPC, None, "No space left on device; make room and give the command again; a training goes"),
        (errno.ENOSPC, "r/x", "r/x: No space left on device; make room"),
        (errno.EROFS, b"r/x", "r/x: Read-only file system; mend this path, or choose another"),
        (errno.EEXIST, "a\nb", "a\\nb: File exists; mend this path"),
    ],
)
def test_what_is_wrong_with_a_disk_or_a_file_is_one_line(runner, capsys, number, path, said):
    def fail(resolved):
        raise OSError(number, os.strerror(number), path)

    runner.train = fail
    assert refused(capsys, "train", "task=toy").startswith(said)


def test_an_interrupt_exits_with_130(runner, capsys):
    def interrupt(resolved):
        raise KeyboardInterrupt

    runner.train = interrupt
    assert cli.main(["train", "task=toy"]) == 130


def test_a_training_that_was_stopped_is_no_error(runner, capsys):
    def stop(resolved):
        raise Interrupted("stopped at 64 images and saved; resume with: goembed train task=toy")

    runner.train = stop
    assert cli.main(["train", "task=toy"]) == 130
    assert capsys.readouterr().err == "stopped at 64 images and saved; resume with: goembed train task=toy\n"


@pytest.mark.parametrize("defect", [ZeroDivisionError(), OSError("odd"), ConnectionRefusedError(111, "refused")])
def test_a_defect_keeps_its_traceback(runner, defect):
    def fail(resolved):
        raise defect

    runner.train = fail
    with pytest.raises(type(defect)):
        cli.main(["train", "task=toy"])


@pytest.mark.parametrize(("gpus", "multi"), [("1", ""), ("3", "--multi_gpu ")])
def test_gpus_start_the_launcher_with_the_same_words(runner, monkeypatch, gpus, multi):
    started = []
    monkeypatch.setattr("goembed_core.launching.count_gpus", lambda: 4)
    monkeypatch.setattr("os.execv", lambda path, command: started.append(" ".join(command)) or sys.exit(0))
    with pytest.raises(SystemExit):
        cli.main(["train", "task=toy", "--gpus", gpus, "train.seed=3"])
    assert started == [
        f"{sys.executable} -m accelerate.commands.launch --num_processes {gpus} --num_machines 1 --dynamo_backend no "
        f"{multi}-m goembed_core.train task=toy train.seed=3"
    ]
    assert runner.calls == []


def test_more_gpus_than_there_are_are_refused(runner, monkeypatch, capsys):
    monkeypatch.setattr("goembed_core.launching.count_gpus", lambda: 0)
    assert refused(capsys, "train", "task=toy", "--gpus", "1") == (
        "--gpus=1: torch sees 0 here; without --gpus it is a process on the CPU"
    )
    monkeypatch.setattr("goembed_core.launching.count_gpus", lambda: 2)
    assert refused(capsys, "train", "task=toy", "--gpus=3").startswith("--gpus=3: torch sees 2 here; ")
    assert runner.calls == []


def test_config_prints_yaml_that_repeats_the_settings(toy, capsys, tmp_path):
    assert cli.main(["config", "task=toy", "train.seed=3", "forward_model.sigma_px=4"]) == 0
    text = capsys.readouterr().out
    assert "seed: 3  # command line" in text
    file = tmp_path / "printed.yaml"
    file.write_text(text)
    assert resolve(None, [f"config={file}"]).config == resolve(
        "toy", ["train.seed=3", "forward_model.sigma_px=4"]
    ).config  # fmt: skip
    assert load_yaml(text)["forward_model"]["name"] == "blur"


def test_help_prints_the_tree(runner, run, capsys):
    assert cli.main(["train", "task=toy", "train.seed=3", "--help"]) == 0
    out = capsys.readouterr().out
    assert "settings of task toy (presets: quick, paper, wrong):" in out
    assert "  train.seed=3  int  (command line)\n      seed of all random numbers\n" in out
    assert "  train.images=100  int  (preset quick)\n" in out
    assert "  forward_model.sigma_px=2.0  float\n      width of the blur\n" in out
    assert "  dataset=null  name or null\n      the dataset\n" in out
    assert cli.main(["train", "-h"]) == 0
    assert "  task=toy  a toy\n" in capsys.readouterr().out
    for target in ("task=toy", str(run)):
        assert cli.main(["sample", target, "--help"]) == 0
        assert "  num_samples=4  int\n      samples of each context\n" in capsys.readouterr().out
    assert cli.main(["evaluate", str(run), "--help"]) == 0
    assert "  evaluate.contexts=10  int" in capsys.readouterr().out
    assert runner.calls == []


def test_plugins_as_text_and_as_json(toy, capsys):
    toy.install("goembed-broken", "broken", "1 / 0")
    cli.host.cache_clear()
    assert cli.main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "broken  (goembed-broken 0.1.0)  failed: ZeroDivisionError: division by zero\n    -> update or " in out
    assert "toy  (goembed-toy 0.1.0)  ok\n    task:toy  a toy\n" in out
    assert cli.main(["plugins", "--json"]) == 0
    broken, working = json.loads(capsys.readouterr().out)
    assert broken == {
        "name": "broken",
        "distribution": "goembed-broken",
        "version": "0.1.0",
        "status": "failed",
        "provides": [],
        "reason": "ZeroDivisionError: division by zero",
        "remedy": "update or reinstall it: uv pip install --reinstall goembed-broken, or leave it out: "
        "GOEMBED_DISABLE_PLUGINS=broken",
    }
    assert working["provides"][:2] == ["task:toy", "forward-model:blur"]


def test_plugins_when_there_are_none(site, monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.metadata, "entry_points", lambda group: [])
    cli.host.cache_clear()
    assert cli.main(["plugins"]) == 0
    assert capsys.readouterr().out.startswith("there is no task to train; tasks are packages: uv pip install")
    cli.host.cache_clear()


def test_a_plugin_that_failed_is_mentioned_before_a_training(runner, capsys):
    cli.host().records.append(cli.host().records[0].__class__("x", "goembed-x", "1.0", "duplicate", (), "two of them"))
    assert cli.main(["train", "task=toy"]) == 0
    assert capsys.readouterr().err == "warning: plugin 'x' (goembed-x 1.0) duplicate: two of them\n"
    assert len(runner.calls) == 1


def test_convert(toy, tmp_path, capsys):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("weights")
    assert cli.main(["convert", "upper", str(source), str(target)]) == 0
    assert target.read_text() == "WEIGHTS"
    assert capsys.readouterr().out == f"wrote {target}\n"


def test_a_command_of_a_plugin(toy, capsys):
    body = """
    from goembed_core.config import Config
    from goembed_core.plugins import hookimpl

    class GreetConfig(Config):
        who: str
        times: int = 1

    def greet(config):
        print(config.who * config.times)
        return 3

    def shadow(config):
        raise AssertionError("a command of core's own is never replaced")

    @hookimpl
    def goembed_register(register):
        register("command", "greet", f"{__name__}:greet", config=f"{__name__}:GreetConfig", summary="100% kind")
        register("command", "plugins", f"{__name__}:shadow")
    """
    toy.install("goembed-greet", "greet", body)
    cli.host.cache_clear()
    for words in (["greet", "ho", "times=2"], ["greet", "times=2", "who=ho"]):
        assert cli.main(words) == 3
        assert capsys.readouterr().out == "hoho\n"
    assert "who" in refused(capsys, "greet")
    assert refused(capsys, "greet", "ho", "times=two").startswith("times='two': ")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "100% kind" in capsys.readouterr().out
    assert cli.main(["plugins"]) == 0


LIGHT = """
import json, sys
from goembed_core import cli

for words, expected in json.loads(sys.argv[1]):
    try:
        code = cli.main(words)
    except SystemExit as exit:
        code = exit.code
    heavy = sorted({"torch", "diffusers", "accelerate", "numpy", "rich", "matplotlib"} & set(sys.modules))
    assert (code, heavy) == (expected, []), (words, code, heavy)
"""


def test_light_commands_import_nothing_heavy(toy, run):
    cases = [
        (["plugins"], 0),
        (["plugins", "--json"], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["train", "task=toy", "--help"], 0),
        (["sample", str(run), "--help"], 0),
        (["config", "task=toy"], 0),
        (["train", "task=toy", "train.imges=1"], 2),
        (["sample", "nowhere"], 2),
        (["check", "--help"], 0),
        (["check", "forward-model", "blur", "sigma=1"], 2),
        (["evaluate", str(run), "evaluate.zzz=1"], 2),
    ]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, json.dumps(cases)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(toy.folder)},
    )
    assert done.returncode == 0, done.stderr
    assert "task:toy  a toy" in done.stdout


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, goembed_core; goembed_core.Config; goembed_core.hookimpl; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in goembed_core.__all__:
        assert getattr(goembed_core, name) is not None
    assert sorted(goembed_core.__all__) == sorted(goembed_core._HOMES)
    with pytest.raises(AttributeError, match="module 'goembed_core' has no attribute 'Forward'"):
        _ = goembed_core.Forward


def test_the_module_of_accelerate_launch_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "goembed_core.train", "foo"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: 'foo' is not of the form key=value\n"
