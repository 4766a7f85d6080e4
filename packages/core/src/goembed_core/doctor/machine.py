"""The machine: devices, Accelerate's view of them, disk, and the command that trains here."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from goembed_core.config import ComponentConfig, resolve
from goembed_core.config.models import RunConfig
from goembed_core.doctor.finding import Finding
from goembed_core.errors import UserError
from goembed_core.launching import launch_options, train_words
from goembed_core.plugins import describe, host

LITTLE_BYTES, TOO_LITTLE_BYTES = 5 * 2**30, 2**28


class LaunchLine(NamedTuple):
    """The command that trains on this machine, in goembed's words and in those of accelerate's launcher."""

    goembed: str
    accelerate: str


def check_torch() -> Iterator[Finding]:
    """torch, and the devices that it finds."""
    try:
        import torch
    except Exception as error:  # a broken library raises OSError and others
        yield Finding("torch", "failed", describe(error), "install it again: uv pip install --reinstall torch")
        return
    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} of {os.cpu_count()} CPU cores")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield Finding(f"cuda:{index}", "ok", f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is not None and found.type != "cuda":
        yield Finding(found.type, "ok", f"{torch.accelerator.device_count()} devices")
    if found is None:
        yield Finding("devices", "ok", "no accelerator; training and sampling run on the CPU")
    elif not _computes(found.type):
        remedy = "the driver and this build of torch do not fit; install the build for your driver"
        yield Finding(found.type, "failed", "is there, and a product of two matrices on it fails", remedy)


def _computes(device: str) -> bool:
    import torch

    try:
        ones = torch.ones(8, 8, device=device)
        return bool((ones @ ones == 8).all())
    except RuntimeError:
        return False


def check_accelerate() -> Iterator[Finding]:
    """Accelerate's own settings, which `accelerate launch` obeys where the command line says nothing."""
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file

    told = {name: value for name, value in os.environ.items() if name.startswith("ACCELERATE_")}
    if told:
        words = " ".join(f"{name}={value}" for name, value in sorted(told.items()))
        yield Finding("accelerate environment", "ok", words)
    path = Path(default_config_file)
    if not path.is_file():
        yield Finding("accelerate", "ok", "no settings of its own, and none are needed: the line below says all")
        return
    remedy = f"write it anew by `accelerate config`, or remove {path}"
    try:
        config = load_config_from_file(str(path))
    except Exception as error:
        yield Finding("accelerate", "failed", f"{path} cannot be read: {describe(error)}", remedy)
        return
    import torch

    processes, devices = config.num_processes, torch.accelerator.device_count()
    detail = f"{path}: {config.distributed_type}, {processes} processes, mixed_precision={config.mixed_precision}"
    if not config.use_cpu and processes > max(devices, 1):
        yield Finding("accelerate", "failed", f"{detail}; this machine has {devices} accelerators", remedy)
    else:
        yield Finding("accelerate", "ok", detail)


def check_disk() -> Iterator[Finding]:
    """Where runs and temporary files go: can they be written, and is there room?"""
    runs = Path.cwd() / RunConfig().root
    places = {
        "runs": (runs, "work in another folder, or say run.root=PATH"),
        "temporary files": (Path(tempfile.gettempdir()), "set TMPDIR to a folder that can be written"),
    }
    for name, (folder, remedy) in places.items():
        yield _check_folder(name, folder, remedy)
    data = os.environ.get("GOEMBED_DATA")
    if data and not Path(data).is_dir():
        yield Finding("data", "warning", f"GOEMBED_DATA={data} is no folder", "name a folder, or unset it")


def _check_folder(name: str, folder: Path, remedy: str) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(name, "failed", f"{folder} cannot be written: {error.strerror}", remedy)
    free = shutil.disk_usage(existing).free
    detail = f"{folder} can be written, {free / 2**30:.1f} GiB are free"
    if free < TOO_LITTLE_BYTES:
        return Finding(name, "failed", detail, remedy)
    return Finding(name, "warning", detail, remedy) if free < LITTLE_BYTES else Finding(name, "ok", detail)


def launch_line() -> LaunchLine:
    """The exact command for this machine, with an installed task if there is one: one that needs no data, if it can."""
    try:
        import torch

        gpus = torch.cuda.device_count()
    except Exception:  # which is a finding already
        gpus = 0
    tasks = host().names("task")
    task = next((name for name in tasks if not _wants_data(name)), next(iter(tasks), "NAME"))
    words = ["goembed", "train", *(["--gpus", str(gpus)] if gpus > 1 else []), f"task={task}"]
    launch = ["accelerate", "launch", *launch_options(gpus), *train_words([f"task={task}"])]
    return LaunchLine(shlex.join(words), shlex.join(launch))


def _wants_data(task: str) -> bool:
    """Whether a task's own settings leave the place of its data open."""
    try:
        config = resolve(task, []).config
    except UserError:  # a plugin that is broken, which is a finding already
        return True
    sections = [section for section in vars(config).values() if isinstance(section, ComponentConfig)]
    return any(section.params.get("path", "given") is None for section in sections if section.kind == "dataset")
