"""What the commands do that need settings; torch is imported only once those hold."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from goembed_core import launching
from goembed_core.config import (
    Resolved,
    dump_yaml,
    resolve,
    resolve_evaluation,
    resolve_model,
    run_task,
    told_what_is_missing,
)
from goembed_core.config.describe import annotate, help_text
from goembed_core.errors import ConfigError
from goembed_core.plugins import Component, host


def run_train(options: argparse.Namespace, overrides: list[str]) -> int:
    """Train in this process, or start one per GPU."""
    if options.help and not any(word.startswith(("task=", "--task=", "config=", "--config=")) for word in overrides):
        options.parser.print_help()
        print_tasks()
        return 0
    resolved = resolve_task(overrides)
    if options.help:
        print_help(options.parser, resolved)
        return 0
    warn_of_plugins()
    if options.gpus is not None:
        return launch(options.gpus, overrides)
    from goembed_core import runner

    runner.train(resolved)
    return 0


def launch(gpus: int, overrides: list[str]) -> int:
    """Replace this process by accelerate's launcher; the settings were checked already, once for all processes."""
    if gpus < 1:
        raise ConfigError(f"--gpus={gpus}: expected at least 1")
    if gpus > (there := launching.count_gpus()):
        one = "a process on the CPU" if there == 0 else "one process"
        raise ConfigError(f"--gpus={gpus}: torch sees {there} here; without --gpus it is {one}")
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    os.execv(sys.executable, [*launcher, *launching.launch_options(gpus), *launching.train_words(overrides)])


def run_sample(options: argparse.Namespace, words: list[str]) -> int:
    """Sample from a run, or from a task without one."""
    run, overrides = split_run(words)
    task, overrides = split_task(overrides)
    if options.help:
        options.parser.print_help()
        component = sampled_component(run, task)
        model = component.load_sample_config() if component else None
        if component and model:
            print(f"\nsettings of sampling from {component.name}:\n{help_text(resolve_model(model, []))}")
        return 0
    if (run is None) == (task is None):
        raise ConfigError("sample from what? give the folder of a run, or task=NAME")
    component = sampled_component(run, task)
    model = component.load_sample_config() if component else None
    if component and model is None:
        raise ConfigError(f"task {component.name!r} cannot be sampled from")
    resolve_model(model, overrides)
    warn_of_plugins()
    from goembed_core import runner

    runner.sample(run, task, overrides)
    return 0


def run_evaluate(options: argparse.Namespace, words: list[str]) -> int:
    """Evaluate a run."""
    run, overrides = split_run(words)
    if options.help:
        if run is None:
            options.parser.print_help()
        else:
            print_help(options.parser, resolve_evaluation(run, overrides))
        return 0
    if run is None:
        raise ConfigError("evaluate what? give the folder of a run")
    resolve_evaluation(run, overrides)
    warn_of_plugins()
    from goembed_core import runner

    runner.evaluate(run, overrides)
    return 0


def run_config(options: argparse.Namespace, overrides: list[str]) -> int:
    """Print resolved settings, each value that is not a default with where it came from."""
    resolved = resolve_task(overrides)
    warn_of_plugins()
    print(annotate(dump_yaml(resolved.config), resolved.provenance), end="")
    return 0


def run_convert(options: argparse.Namespace, words: list[str]) -> int:
    """Convert published weights."""
    converter = host().get("converter", options.name)
    if not options.source.is_file():
        raise ConfigError(f"IN={options.source}: there is no such file")
    converter.load()(options.source, options.target)
    print(f"wrote {options.target}")
    return 0


def run_plugins_command(options: argparse.Namespace, words: list[str]) -> int:
    """A command of a plugin, with its settings; a first word without `=` is the value of the first of these."""
    command = host().get("command", options.command)
    model = command.load_config()
    if words and "=" not in words[0]:
        words = [f"{next(iter(model.model_fields))}={words[0]}", *words[1:]]
    return command.load()(resolve_model(model, words).config)


def run_new(options: argparse.Namespace, words: list[str]) -> int:
    """Write a package for a plugin."""
    from goembed_core.scaffold import new_package

    created = new_package(options.kind, options.name)
    print(f"wrote {created.folder}")
    print("next:", *created.next_steps, sep="\n  ")
    return 0


def run_doctor(options: argparse.Namespace, words: list[str]) -> int:
    """Check installation and machine; 1 when something is broken."""
    from goembed_core import doctor

    return doctor.report(options.json)


def resolve_task(overrides: list[str]) -> Resolved:
    """Resolve, with a hint for a task's name given bare."""
    for word in overrides:
        if word in host().names("task"):
            raise ConfigError(f"{word!r} is not of the form key=value; did you mean task={word}?")
    return resolve(None, overrides)


def split_run(words: list[str]) -> tuple[Path | None, list[str]]:
    """The folder of a run, which is the first word that is no override."""
    for index, word in enumerate(words):
        if "=" not in word or os.path.isdir(word):  # Path's own raises for what is too long to be one
            return Path(word), words[:index] + words[index + 1 :]
    return None, words


def split_task(overrides: list[str]) -> tuple[str | None, list[str]]:
    """The value of `task=NAME`, and the other overrides."""
    names = [word.partition("=")[2] for word in overrides if word.startswith(("task=", "--task="))]
    rest = [word for word in overrides if not word.startswith(("task=", "--task="))]
    return names[-1] if names else None, rest


def sampled_component(run: Path | None, task: str | None) -> Component | None:
    """The task that would be sampled."""
    if run is None:
        return host().get("task", task) if task else None
    with told_what_is_missing(run):
        return host().get("task", run_task(run))


def warn_of_plugins() -> None:
    """A plugin that did not load is never passed over in silence."""
    for record in host().records:
        if record.status in ("failed", "duplicate"):
            print(f"warning: {record.told()}", file=sys.stderr)


def print_tasks() -> None:
    """The tasks there are."""
    print("\ntasks:")
    for name in host().names("task"):
        print(f"  task={name}  {host().get('task', name).summary}")


def print_help(parser: argparse.ArgumentParser, resolved: Resolved) -> None:
    """A command's help with the settings in force."""
    parser.print_help()
    presets = ", ".join(resolved.component.load_presets()) if resolved.component else ""
    print(f"\nsettings of task {resolved.config.task}" + (f" (presets: {presets})" if presets else "") + ":")
    print(help_text(resolved))
