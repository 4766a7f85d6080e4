"""The command line: `goembed train | sample | evaluate | config | plugins | convert`.

torch is imported by the commands that compute, so that help, listings and the errors of settings come at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from goembed_core.config import Resolved, dump_yaml, resolve, resolve_model, resolve_run, run_task
from goembed_core.config.describe import annotate, help_text
from goembed_core.errors import ConfigError, UserError
from goembed_core.plugins import Component, host

SETTINGS = "settings are given as key=value; `goembed train task=NAME --help` lists a task's"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: dispatch(arguments))


def train_main(argv: Sequence[str]) -> int:
    """`goembed train`, for `python -m goembed_core.train`."""
    return guarded(lambda: dispatch(["train", *argv]))


def guarded(command: Callable[[], int]) -> int:
    """The command's exit status; the user's errors are one line without a traceback."""
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def dispatch(argv: list[str]) -> int:
    """Find the command and call it with its options, and with the rest of the words in their order."""
    options, rest = make_parser().parse_known_args(argv)
    return options.command(options, rest)


def make_parser() -> argparse.ArgumentParser:
    """Only options are declared: what is left over are the overrides, in any position."""
    parser = argparse.ArgumentParser(
        prog="goembed", description="Inverse problems with a differentiable forward model."
    )
    parser.add_argument("--version", action="version", version=f"goembed {importlib.metadata.version('goembed-core')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, usage: str, command: Callable[..., int], summary: str, own_help: bool
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, usage=f"goembed {name} {usage}", help=summary, description=summary, epilog=SETTINGS,
            allow_abbrev=False, add_help=not own_help,
        )  # fmt: skip
        if own_help:
            sub.add_argument("-h", "--help", action="store_true", help="this text, and the settings of the task or run")
        sub.set_defaults(command=command, parser=sub)
        return sub

    train = add(
        "train", "[--gpus N] task=NAME [key=value ...]", run_train, "train; the same command again resumes", True
    )
    train.add_argument("--gpus", type=int, metavar="N", help="start N processes, one per GPU, by accelerate launch")
    add("sample", "RUN|task=NAME [key=value ...]", run_sample, "draw samples from a run, or a task's own weights", True)
    add("evaluate", "RUN [key=value ...]", run_evaluate, "judge a run and write its metrics.json", True)
    add("config", "task=NAME [key=value ...]", run_config, "print a task's settings as YAML", False)
    plugins = add("plugins", "[--json]", run_plugins, "list the plugins and what they provide", False)
    plugins.add_argument("--json", action="store_true", help="as a JSON list")
    convert = add("convert", "NAME IN OUT", run_convert, "convert published weights to safetensors", False)
    convert.add_argument("name", metavar="NAME")
    convert.add_argument("source", metavar="IN", type=Path)
    convert.add_argument("target", metavar="OUT", type=Path)
    return parser


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
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(gpus), "--num_machines", "1"]
    command += ["--dynamo_backend", "no"] + ["--multi_gpu"] * (gpus > 1) + ["-m", "goembed_core.train", *overrides]
    os.execv(sys.executable, command)


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
    sampled_component(run, task)
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
            print_help(options.parser, resolve_run(run, overrides))
        return 0
    if run is None:
        raise ConfigError("evaluate what? give the folder of a run")
    resolve_run(run, overrides)
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


def run_plugins(options: argparse.Namespace, words: list[str]) -> int:
    """List the plugins."""
    refuse(words)
    records = host().records
    if options.json:
        print(json.dumps([dataclasses.asdict(record) for record in records], indent=2))
        return 0
    if not records:
        print("no plugins are installed; each of them is a package, for instance: uv pip install goembed-gan-inversion")
    for record in records:
        print(f"{record.name}  ({record})  {record.status}" + (f": {record.reason}" if record.reason else ""))
        for component in host().components:
            if component.plugin == record.name and record.status == "ok":
                print(f"    {component.kind}:{component.name}" + (f"  {component.summary}" * bool(component.summary)))
    return 0


def run_convert(options: argparse.Namespace, words: list[str]) -> int:
    """Convert published weights."""
    refuse(words)
    converter = host().get("converter", options.name)
    if not options.source.is_file():
        raise ConfigError(f"IN={options.source}: there is no such file")
    converter.load()(options.source, options.target)
    print(f"wrote {options.target}")
    return 0


def resolve_task(overrides: list[str]) -> Resolved:
    """Resolve, with a hint for a task's name given bare."""
    for word in overrides:
        if word in host().names("task"):
            raise ConfigError(f"{word!r} is not of the form key=value; did you mean task={word}?")
    return resolve(None, overrides)


def split_run(words: list[str]) -> tuple[Path | None, list[str]]:
    """The folder of a run, which is the first word that is no override."""
    for index, word in enumerate(words):
        if "=" not in word or Path(word).is_dir():
            return Path(word), words[:index] + words[index + 1 :]
    return None, words


def split_task(overrides: list[str]) -> tuple[str | None, list[str]]:
    """The value of `task=NAME`, and the other overrides."""
    names = [word.partition("=")[2] for word in overrides if word.startswith(("task=", "--task="))]
    rest = [word for word in overrides if not word.startswith(("task=", "--task="))]
    return names[-1] if names else None, rest


def sampled_component(run: Path | None, task: str | None) -> Component | None:
    """The task that would be sampled."""
    name = run_task(run) if run else task
    return host().get("task", name) if name else None


def refuse(words: list[str]) -> None:
    """Say that a command takes no more words."""
    if words:
        raise ConfigError(f"unexpected {', '.join(map(repr, words))}")


def warn_of_plugins() -> None:
    """A plugin that did not load is never passed over in silence."""
    for record in host().records:
        if record.status in ("failed", "duplicate"):
            print(f"warning: plugin {record.name!r} ({record}) {record.status}: {record.reason}", file=sys.stderr)


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
