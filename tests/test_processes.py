"""The number of processes, machines and micro-batches changes nothing of what is computed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from goembed_core.checkpoints import CheckpointFolder

TOY = str(Path(__file__).parent / "processes" / "toy.py")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")
MEASURED = ("seconds", "images_per_second", "memory_mib")
STEPS = 200


def start(launcher: tuple[str, ...], *arguments: object) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, *launcher, TOY, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> str:
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return said


def log_of(directory: Path) -> list[dict]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


def losses(directory: Path) -> list[float]:
    return [line["network/target"] for line in log_of(directory)]


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    checkpoint = CheckpointFolder(directory / "checkpoints").newest(print)
    return {f"{group}/{name}": value for group, part in checkpoint.groups.items() for name, value in part.items()}


@pytest.fixture(scope="module", params=["float64", pytest.param("float32", marks=pytest.mark.slow)])
def one(request, tmp_path_factory):
    """One process; the directory, the arithmetic, and how far others may be from it."""
    directory = tmp_path_factory.mktemp("one")
    finish(start((), directory, STEPS * 16, request.param, 0))
    found = losses(directory)
    assert len(found) == STEPS and found[-1] < 0.7 * found[0]
    return found, request.param, {"float64": 1e-9, "float32": 1e-4}[request.param]


def test_two_processes(one, tmp_path):
    expected, dtype, tolerance = one
    finish(start(TORCHRUN, tmp_path, STEPS * 16, dtype, 0))
    assert losses(tmp_path) == pytest.approx(expected, rel=tolerance)


@pytest.mark.slow
def test_accumulation_on_one_and_on_two_processes(one, tmp_path):
    expected, dtype, tolerance = one
    finish(start((), tmp_path / "one", STEPS * 16, dtype, 4))
    finish(start(TORCHRUN, tmp_path / "two", STEPS * 16, dtype, 2))
    for name in ("one", "two"):
        assert losses(tmp_path / name) == pytest.approx(expected, rel=tolerance)


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit_when_one_of_them_is_told_to_stop(tmp_path):
    finish(start(TORCHRUN, tmp_path / "whole", 960, "float32", 0))
    said = finish(start(TORCHRUN, tmp_path / "parts", 960, "float32", 0, 33))
    assert said.count("stopped at ") == 2 and "resume with: goembed train task=toy" in said  # both processes, together
    stopped_at = {int(line.split("stopped at ")[1].split()[0]) for line in said.splitlines() if "stopped at " in line}
    assert len(stopped_at) == 1 and 33 * 16 <= stopped_at.pop() <= 34 * 16
    finish(start(TORCHRUN, tmp_path / "parts", 960, "float32", 0))
    one, two = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")


@pytest.mark.slow
def test_two_launchers_as_on_two_machines(one, tmp_path):
    """By torchrun: accelerate's launcher joins machines with GPUs, but not with CPUs alone."""
    expected, dtype, tolerance = one
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(port))
    launchers = [
        start(("-m", "torch.distributed.run", *options, "--node_rank", str(rank)), tmp_path, STEPS * 16, dtype, 0)
        for rank in (0, 1)
    ]
    for launcher in launchers:
        finish(launcher)
    assert losses(tmp_path) == pytest.approx(expected, rel=tolerance)
