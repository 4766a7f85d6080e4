"""`goembed doctor`, the half with torch: devices, Accelerate, disk, components, and what it says of all of it."""

import json
import textwrap
import types

import pytest
import torch
from goembed_core import cli, doctor
from goembed_core.config import ComponentConfig
from goembed_core.doctor import finding, machine, smoke
from goembed_core.plugins import PluginHost, hookimpl

MODELS = """
    import torch
    from goembed_core.config import Config
    from goembed_core.errors import UserError
    from goembed_core.protocols import Observations
    from torch import nn

    class Sized(Config):
        size: int

    class Good(nn.Module):
        def __init__(self, config=None):
            super().__init__()
            self.layer = nn.Linear(3, 3)
        def forward(self, signal, params):
            return self.layer(signal)[:, None]
        def example(self, batch_size, generator):
            return torch.randn(batch_size, 3, generator=generator), ()

    class Detached(Good):
        def forward(self, signal, params):
            return self.layer(signal.detach())[:, None]

    class Infinite(Good):
        def forward(self, signal, params):
            return (signal * 0).sqrt()[:, None]

    class Raising(Good):
        def forward(self, signal, params):
            raise ValueError("3 is\\n not 4")

    class NeedsFile(Good):
        def __init__(self):
            raise UserError("weights=None: give a file")

    class Denoiser(Good):
        def forward(self, context, target, timestep):
            return self.layer(target.values[:, 0])
        def example(self, batch_size, generator):
            values = torch.randn(batch_size, 1, 3, generator=generator)
            return Observations(values, ()), Observations(values, ()), torch.arange(batch_size)
"""


class Plugin:
    """Registers classes of the module `doctor_models`."""

    def __init__(self, *components):
        self.components = components

    @hookimpl
    def goembed_register(self, register):
        for kind, name, target, config in self.components:
            register(kind, name, f"doctor_models:{target}", config=config and f"doctor_models:{config}")


@pytest.fixture
def components(tmp_path, monkeypatch):
    """The findings on components that are registered as `(kind, name, target, config)`."""
    (tmp_path / "doctor_models.py").write_text(textwrap.dedent(MODELS))
    monkeypatch.syspath_prepend(tmp_path)

    def examined(*registered):
        host = PluginHost([])
        host.register_module(Plugin(*registered), "goembed-mine")
        monkeypatch.setattr(smoke, "host", lambda: host)
        monkeypatch.setattr("goembed_core.config.components.host", lambda: host)
        return {f.name: f for f in smoke.check_components()}

    yield examined
    monkeypatch.delitem(__import__("sys").modules, "doctor_models", raising=False)


def test_every_forward_model_and_denoiser_is_tried(components):
    found = components(
        ("forward-model", "good", "Good", None),
        ("denoiser", "fine", "Denoiser", None),
        ("encoder", "not-tried", "Good", None),
        ("forward-model", "detached", "Detached", None),
        ("forward-model", "infinite", "Infinite", None),
        ("forward-model", "raising", "Raising", None),
        ("forward-model", "needs-file", "NeedsFile", None),
        ("forward-model", "needs-size", "Good", "Sized"),
        ("forward-model", "gone", "Gone", None),
    )
    status = {name: f.status for name, f in found.items()}
    assert status == {
        "forward model good": "ok",
        "denoiser fine": "ok",
        "forward model detached": "failed",
        "forward model infinite": "failed",
        "forward model raising": "failed",
        "forward model needs-file": "skipped",
        "forward model needs-size": "skipped",
        "forward model gone": "failed",
    }
    assert found["forward model good"].detail.startswith("forward and backward on ")
    assert "no gradient arrives" in found["forward model detached"].detail
    assert "the gradient is not finite" in found["forward model infinite"].detail
    raising = found["forward model raising"]
    assert raising.detail == "ValueError: 3 is not 4 (in goembed-mine)"
    assert raising.remedy == "goembed check forward-model goembed-mine:raising says more"
    assert "weights=None: give a file" in found["forward model needs-file"].detail
    assert "needs-size.size" in found["forward model needs-size"].detail
    assert found["forward model needs-size"].remedy.endswith("goembed-mine:needs-size key=value")
    assert "has no attribute 'Gone'" in found["forward model gone"].detail


def test_a_component_without_defaults_is_built_as_a_task_has_it():
    found = {f.name: f for f in smoke.check_components()}
    for name, one in found.items():
        assert one.status == "ok", (name, one)
    assert len(found) == sum(c.kind in smoke.KINDS for c in smoke.host().components)


def test_torch_and_devices(monkeypatch):
    names = [f.name for f in machine.check_torch()]
    assert names[0] == "torch" and len(names) >= 2
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (broken,) = machine.check_torch()
    assert (broken.name, broken.status) == ("torch", "failed")
    assert "uv pip install --reinstall torch" in broken.remedy


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        ("num_processes: 1\nuse_cpu: true\n", "ok", "1 processes"),
        ("num_processes: 99\nuse_cpu: false\n", "failed", "99 processes"),
        ("num_processes: [\n", "failed", "cannot be read"),
        ("num_processes: 1\nno_such_key: 1\n", "failed", "cannot be read"),
    ],
)
def test_settings_of_accelerate(tmp_path, monkeypatch, text, status, detail):
    path = tmp_path / "default_config.yaml"
    base = "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: 'no'\ndebug: false\n"
    path.write_text(base + text)
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(path))
    (found,) = [f for f in machine.check_accelerate() if f.name == "accelerate"]
    assert found.status == status, found
    assert detail in found.detail
    assert (f"remove {path}" in found.remedy) == (status == "failed")


def test_no_settings_of_accelerate(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    found = list(machine.check_accelerate())
    assert [f.status for f in found] == ["ok", "ok"]
    assert "ACCELERATE_USE_CPU=true" in found[0].detail


def test_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOEMBED_DATA", str(tmp_path / "none"))
    assert {f.name: f.status for f in machine.check_disk()}["data"] == "warning"
    free = types.SimpleNamespace(free=2**30)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: free)
    assert machine._check_folder("runs", tmp_path / "runs", "go").status == "warning"
    free.free = 2**20
    full = machine._check_folder("runs", tmp_path / "runs", "go")
    assert (full.status, full.remedy) == ("failed", "go")
    assert not (tmp_path / "runs").exists()

    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    refused = machine._check_folder("runs", tmp_path / "runs", "go")
    assert refused.detail == f"{tmp_path / 'runs'} cannot be written: Permission denied"


@pytest.mark.parametrize(
    ("gpus", "goembed", "accelerate"),
    [
        (0, "goembed train", "--num_processes 1 --num_machines 1 --dynamo_backend no --mixed_precision no --cpu"),
        (1, "goembed train", "--num_processes 1 --num_machines 1 --dynamo_backend no"),
        (4, "goembed train --gpus 4", "--num_processes 4 --num_machines 1 --dynamo_backend no --multi_gpu"),
    ],
)
def test_the_launch_line_of_a_machine(monkeypatch, gpus, goembed, accelerate):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(machine, "host", lambda: PluginHost([]))
    line = machine.launch_line()
    assert line.goembed == f"{goembed} task=NAME"
    assert line.accelerate == f"accelerate launch {accelerate} -m goembed_core.train task=NAME"


def test_the_launch_line_names_a_task_that_needs_no_data(monkeypatch):
    asked = {"a": {"path": None}, "b": {"path": "here"}, "c": {}}

    def resolve(task, overrides):
        section = ComponentConfig(name="images", **asked[task]).of_kind("dataset")
        return types.SimpleNamespace(config=types.SimpleNamespace(dataset=section))

    monkeypatch.setattr(machine, "resolve", resolve)
    monkeypatch.setattr(machine, "host", lambda: types.SimpleNamespace(names=lambda kind: list(asked)))
    assert machine.launch_line().goembed.endswith("train task=b")
    asked.pop("b"), asked.pop("c")
    assert machine.launch_line().goembed.endswith("train task=a")


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_the_command(monkeypatch, capsys, status):
    one = finding.Finding("moon", status, "is there", "look up")
    monkeypatch.setattr(doctor, "CHECKS", [lambda: [one]])
    code = 1 if status == "failed" else 0
    assert cli.main(["doctor"]) == code
    out = capsys.readouterr().out
    assert out.startswith(f"{status:<8}moon: is there\n        -> look up\n\nto train here:  goembed train ")
    assert out.endswith("1 broken\n" if code else "nothing is broken\n")
    assert cli.main(["doctor", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["broken"] == code
    assert told["findings"] == [{"name": "moon", "status": status, "detail": "is there", "remedy": "look up"}]
    assert told["launch"].keys() == {"goembed", "accelerate"}
