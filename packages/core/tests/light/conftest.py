"""Fake distributions, made of files and found through `sys.path` as installed ones are."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from goembed_core import plugins

REGISTER = """
from goembed_core.plugins import hookimpl

@hookimpl
def goembed_register(register):
    {body}
"""


class Site:
    """A folder on `sys.path` to install fake plugins into."""

    def __init__(self, folder: Path):
        self.folder = folder

    def install(
        self, dist: str, name: str, source: str, *, version: str = "0.1.0", requires: tuple[str, ...] = ()
    ) -> str:
        """A distribution whose entry point `name` is a module with that source; returns the module's name."""
        module = f"{dist}_{name}".replace("-", "_")
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        lines = ["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join(lines + [f"Requires-Dist: {line}" for line in requires]) + "\n")
        points = info / "entry_points.txt"
        old = points.read_text() if points.exists() else "[goembed]\n"
        points.write_text(f"{old}{name} = {module}\n")
        return module

    def offer(self, dist: str, name: str, *components: str, **options: object) -> str:
        """A working plugin that provides each `kind:name` as the class `Thing` of its module."""
        module = f"{dist}_{name}".replace("-", "_")
        calls = [
            f'register("{c.partition(":")[0]}", "{c.partition(":")[2]}", "{module}:Thing", config="{module}:Settings")'
            for c in components
        ]
        source = REGISTER.format(body="\n    ".join(calls) or "pass") + textwrap.dedent(
            """
            from goembed_core.config import Config

            class Settings(Config):
                size: int = 1
                label: str = "a"

            class Thing:
                def __init__(self, config):
                    self.config = config
            """
        )
        return self.install(dist, name, source, **options)

    def entry_points(self) -> list[EntryPoint]:
        """The plugins of this folder alone."""
        folder = str(self.folder)
        return [point for point in entry_points(group="goembed") if str(point.dist.locate_file("")) == folder]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An empty site for the length of a test; its modules are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    try:
        yield Site(folder)
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


TOY = """
from goembed_core.config import ComponentConfig, Config, OptimizerConfig, TaskConfig, TrainConfig, component
from goembed_core.config.solvers import SamplerConfig
from goembed_core.plugins import hookimpl
from pydantic import Field, PositiveInt


class BlurConfig(Config):
    sigma_px: float = Field(default=1.0, gt=0, description="width of the blur")
    label: str = "none"
    encoder: ComponentConfig | None = component("encoder", None)


class EmbedConfig(Config):
    size: int = 8


class EvaluateConfig(Config):
    contexts: PositiveInt = 10
    weights: dict[str, float] = {"a": 1.0}
    limit: float = Field(default=float("inf"), allow_inf_nan=True)


class ToyConfig(TaskConfig):
    task: str = "toy"
    train: TrainConfig = TrainConfig(images=1000)
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3)
    forward_model: ComponentConfig = component("forward-model", "blur", params={"sigma_px": 2.0})
    dataset: ComponentConfig | None = component("dataset", None)
    sampler: SamplerConfig = SamplerConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


class ToySample(Config):
    num_samples: PositiveInt = Field(default=4, description="samples of each context")
    seed: int = 0


PRESETS = {
    "quick": {"train": {"images": 100, "batch_size": 10}},
    "paper": {"train": {"images": 5000}, "forward_model": {"label": "paper"}},
    "wrong": {"train": {"imags": 5000}},
}


class Thing:
    def __init__(self, config):
        self.config = config


def convert(source, target):
    target.write_text(source.read_text().upper())


@hookimpl
def goembed_register(register):
    here = __name__
    register("task", "toy", f"{here}:Thing", config=f"{here}:ToyConfig", presets=f"{here}:PRESETS",
             sample_config=f"{here}:ToySample", summary="a toy")
    register("forward-model", "blur", f"{here}:Thing", config=f"{here}:BlurConfig", summary="out of focus")
    register("forward-model", "identity", "builtins:object")
    register("encoder", "embed", f"{here}:Thing", config=f"{here}:EmbedConfig")
    register("converter", "upper", f"{here}:convert")
"""


@pytest.fixture
def toy(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The task `toy` and its components, installed; the process's own host knows nothing else."""
    site.install("goembed-toy", "toy", TOY)
    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", lambda group: site.entry_points())
    plugins.host.cache_clear()
    yield site
    plugins.host.cache_clear()
