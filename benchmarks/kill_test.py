"""Kill a training at random moments, run the same command again, and see that nothing is ever lost.

    python benchmarks/kill_test.py            # 100 kills, about 5 minutes on two cores
    python benchmarks/kill_test.py --kills 10

Every training is the command line's own, in a forked process (so that imports are paid once), and is killed with
SIGKILL after a random time.  It writes a checkpoint every few steps, so that many kills fall into a write.  After each
kill the newest whole checkpoint must be readable and not older than the one before; at the end the run is left alone,
and must hold, bit for bit, the weights, averages, moments and log of a run that was never killed, and no temporary
file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import goembed_posterior_check.task
import torch
from goembed_core import cli
from goembed_core.checkpoints import CheckpointFolder
from goembed_core.files import TEMPORARY_PREFIX
from goembed_core.schedule import NoiseSchedule

SETTINGS = (
    "task=posterior_check", "train.images=24576", "train.batch_size=64", "train.checkpoint_every_nimg=256",
    "train.log_every_nimg=320", "mixture.hidden_size=128", "gaussian.hidden_size=128", "evaluate.contexts=2",
    "evaluate.samples=10", "evaluate.coverage_contexts=20", "evaluate.coverage_samples=10", "evaluate.study_contexts=2",
    "evaluate.study_samples=10", "evaluate.steps=[]", "sampler.num_steps=2", "train.threads=1",
)  # fmt: skip
MEASURED = ("seconds", "images_per_second", "memory_mib")


class Outcome(NamedTuple):
    """What came of the kills."""

    kills: int
    in_a_write: int  # kills that found a checkpoint half written
    lost: int  # kills after which the newest whole checkpoint was older than before, or there was none any more
    rounds: int  # trainings from nothing to the end that it took
    equal: bool
    leftovers: list[str]


def start(directory: Path) -> int:
    """Fork a training; the child's process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        sys.stdout = sys.stderr = open(directory.with_suffix(".log"), "a", buffering=1)  # noqa: SIM115 - the child's own
        status = cli.main(["train", f"run.dir={directory}", *SETTINGS])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def finish(child: int) -> int:
    """Wait for a training; its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def newest(directory: Path) -> int:
    """Images seen of the newest whole checkpoint; -1 for none."""
    warnings: list[str] = []
    checkpoint = CheckpointFolder(directory / "checkpoints").newest(warnings.append)
    return -1 if checkpoint is None else checkpoint.state["images_seen"]


def state(directory: Path) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """All tensors of the last checkpoint, and the log without what is measured of the machine."""
    checkpoint = CheckpointFolder(directory / "checkpoints").newest(print)
    tensors = {f"{group}/{name}": value for group, part in checkpoint.groups.items() for name, value in part.items()}
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return tensors, [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


def torment(root: Path, kills: int, seed: int) -> Outcome:
    """Kill `kills` trainings, and compare with one that was left alone."""
    generator = random.Random(seed)
    whole = root / "whole"
    began = time.monotonic()
    if finish(start(whole)):
        raise SystemExit(f"the undisturbed training failed:\n{whole.with_suffix('.log').read_text()[-2000:]}")
    duration = time.monotonic() - began
    done = in_a_write = lost = rounds = 0
    directory = root / "killed-0"
    before = -1
    while done < kills:
        child = start(directory)
        time.sleep(generator.uniform(0, duration / 4))
        if os.waitpid(child, os.WNOHANG) != (0, 0):  # it came to its end first: begin another run
            rounds += 1
            directory, before = root / f"killed-{rounds}", -1
            continue
        os.kill(child, signal.SIGKILL)
        finish(child)
        done += 1
        checkpoints = directory / "checkpoints"
        in_a_write += checkpoints.is_dir() and any(p.name.startswith(TEMPORARY_PREFIX) for p in checkpoints.iterdir())
        now = newest(directory)
        lost += now < before
        before = now
        print(f"\rkill {done}/{kills}: newest whole checkpoint at {now} images", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if finish(start(directory)):
        raise SystemExit(f"the last training failed:\n{directory.with_suffix('.log').read_text()[-2000:]}")
    (tensors, log), (expected, expected_log) = state(directory), state(whole)
    equal = tensors.keys() == expected.keys() and log == expected_log
    equal = equal and all(torch.equal(tensors[name], expected[name]) for name in expected)
    leftovers = [str(path.relative_to(directory)) for path in directory.rglob(f"{TEMPORARY_PREFIX}*")]
    return Outcome(done, in_a_write, lost, rounds + 1, equal, leftovers)


def main() -> int:
    """The command; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    assert goembed_posterior_check.task  # imported once, for all children
    NoiseSchedule()  # and diffusers with it
    with tempfile.TemporaryDirectory() as folder:
        outcome = torment(Path(folder), options.kills, options.seed)
    print(json.dumps(outcome._asdict(), indent=1))
    return 0 if outcome.equal and not outcome.lost and not outcome.leftovers else 1


if __name__ == "__main__":
    sys.exit(main())
