"""The command line: `goembed train | sample | evaluate | config | plugins | new | check | doctor | convert`.

torch is imported by the commands that compute, so that help, listings and the errors of settings come at once; what
needs settings at all is in `goembed_core.commands`.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from goembed_core.errors import ConfigError, UserError, did_you_mean, one_line
from goembed_core.plugins import host
from goembed_core.signals import Interrupted

FULL = (errno.ENOSPC, errno.EDQUOT)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT)
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
    except Interrupted as stopped:  # as was asked for
        print(stopped, file=sys.stderr)
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has seen enough: `goembed plugins | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if not (told := told_of_files(error)):
            raise
        print(f"error: {one_line(told)}", file=sys.stderr)
        return 2


def told_of_files(error: OSError) -> str:
    """What is wrong with a disk or a file, and what to do; nothing for an error that is not of files."""
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if error.errno in FULL:
        remedy = "make room and give the command again; a training goes on from its last checkpoint"
        return f"{place}{error.strerror}; {remedy}"
    if error.errno in CLOSED and place:
        return f"{place}{error.strerror}; mend this path, or choose another"
    return ""


class Parser(argparse.ArgumentParser):
    """Wrong words are told in one line as wrong settings are, with the word that may have been meant."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help lists what there is")


def dispatch(argv: list[str]) -> int:
    """Find the command and call it with its options, and with the rest of the words in their order."""
    parser, commands = make_parser()
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        hint = did_you_mean(argv[0], commands) or f"; commands: {', '.join(commands)}"
        raise ConfigError(f"there is no command {argv[0]!r}{hint}")
    options, rest = parser.parse_known_args(argv)
    for word in rest:
        if word.startswith("--") and "=" not in word:
            known = re.findall(r"--[a-z-]+", options.parser.format_help())
            raise ConfigError(f"{word!r} is neither an option nor of the form key=value{did_you_mean(word, known)}")
    if rest and options.command in ("plugins", "convert", "new", "doctor"):
        raise ConfigError(f"unexpected {', '.join(map(repr, rest))}")
    if options.command == "plugins":
        return list_plugins(options)
    if options.command == "check":
        from goembed_core import checking

        return checking.run_check(options, rest)
    from goembed_core import commands as running

    run = {
        "train": running.run_train,
        "sample": running.run_sample,
        "evaluate": running.run_evaluate,
        "config": running.run_config,
        "convert": running.run_convert,
        "new": running.run_new,
        "doctor": running.run_doctor,
    }
    return run.get(options.command, running.run_plugins_command)(options, rest)


def make_parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser, and its commands. Only options are declared: what is left over are the overrides, in any position."""
    parser = Parser(prog="goembed", description="Inverse problems with a differentiable forward model.")
    parser.add_argument("--version", action="version", version=f"goembed {importlib.metadata.version('goembed-core')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, usage: str, summary: str, own_help: bool) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, usage=f"goembed {name} {usage}", help=summary, description=summary, epilog=SETTINGS,
            allow_abbrev=False, add_help=not own_help,
        )  # fmt: skip
        if own_help:
            sub.add_argument("-h", "--help", action="store_true", help="this text, and the settings of the task or run")
        sub.set_defaults(command=name, parser=sub)
        return sub

    train = add("train", "[--gpus N] task=NAME [key=value ...]", "train; the same command again resumes", True)
    train.add_argument("--gpus", type=int, metavar="N", help="start N processes, one per GPU, by accelerate launch")
    add("sample", "RUN|task=NAME [key=value ...]", "draw samples from a run, or a task's own weights", True)
    add("evaluate", "RUN [key=value ...]", "judge a run and write its metrics.json", True)
    add("config", "task=NAME [key=value ...]", "print a task's settings as YAML", False)
    plugins = add("plugins", "[--json]", "list the plugins and what they provide", False)
    plugins.add_argument("--json", action="store_true", help="as a JSON list")
    check = add("check", "KIND NAME [key=value ...] [--json]", "check a plugin against the laws of its kind", False)
    check.add_argument(
        "kind", metavar="KIND", nargs="?", help="forward-model, encoder, denoiser, dataset or radiance-field"
    )
    check.add_argument("name", metavar="NAME", nargs="?", help="as `goembed plugins` lists it")
    check.add_argument("--json", action="store_true", help="as a JSON object")
    convert = add("convert", "NAME IN OUT", "convert published weights to safetensors", False)
    convert.add_argument("name", metavar="NAME")
    convert.add_argument("source", metavar="IN", type=Path)
    convert.add_argument("target", metavar="OUT", type=Path)
    new = add("new", "KIND NAME", "write a working package for a plugin of your own, goembed-NAME", False)
    new.add_argument("kind", metavar="KIND", help="forward-model, encoder, denoiser, dataset, radiance-field or task")
    new.add_argument("name", metavar="NAME", help="lower-case words joined by '-'")
    doctor = add("doctor", "[--json]", "check this installation and machine, and say how to train on it", False)
    doctor.add_argument("--json", action="store_true", help="as a JSON object")
    for component in host().components:
        if component.kind == "command" and component.name not in commands.choices:
            add(component.name, "[VALUE] [key=value ...]", component.summary.replace("%", "%%"), False)
    return parser, list(commands.choices)


def list_plugins(options: argparse.Namespace) -> int:
    """List the plugins."""
    records = host().records
    if options.json:
        print(json.dumps([dataclasses.asdict(record) for record in records], indent=2))
        return 0
    for record in records:
        print(f"{record.name}  ({record})  {record.status}" + (f": {record.reason}" if record.reason else ""))
        if record.remedy:
            print(f"    -> {record.remedy}")
        for component in host().components:
            if component.plugin == record.name and record.status == "ok":
                print(f"    {component.kind}:{component.name}" + (f"  {component.summary}" * bool(component.summary)))
    if not host().names("task"):
        print("there is no task to train; tasks are packages: uv pip install goembed-gan-inversion, for instance")
    return 0
