"""The launch lines of the README: accelerate's, and two processes that compute what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = (
    "denoiser.hidden_size=32", "denoiser.depth=1", "denoiser.num_heads=2", "train.images=64", "train.batch_size=16",
    "train.log_every_nimg=16", "train.preview_every_nimg=0", "train.mixed_precision=no", "evaluate.contexts=8",
    "evaluate.refined_contexts=4", "evaluate.steps=[]", "evaluate.posterior_contexts=1", "evaluate.posterior_samples=4",
    "evaluate.posterior_pool=20", "evaluate.refined_posterior_contexts=0", "evaluate.pictures=1", "sampler.num_steps=2",
    "refine.steps=2",
)  # fmt: skip


def launch(directory: Path, *launcher: str) -> list[dict]:
    """Train under a launcher; the lines of the log."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [
        sys.executable,
        *launcher,
        "-m",
        "goembed_core.train",
        "task=gan_inversion",
        f"run.dir={directory}",
        *TINY,
    ]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert (directory / "report.html").exists() and finished.stdout.count("report:") == 1
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The log of one process, by accelerate's launcher."""
    options = (
        "--num_processes",
        "1",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--cpu",
    )
    return launch(tmp_path_factory.mktemp("one") / "run", "-m", "accelerate.commands.launch", *options)


def test_accelerate_launches_the_trainer(one):
    assert [line["images"] for line in one] == [16, 32, 48, 64]


def test_two_processes_compute_what_one_does(one, tmp_path):
    two = launch(tmp_path / "run", "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")
    assert [line["images"] for line in two] == [line["images"] for line in one]
    for name in ("dfm/target", "deterministic/target", "dfm/gradient_norm"):
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=1e-4)
