"""The trainer: what is drawn, who moves when, and that a resume changes nothing."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from goembed_core.config import OptimizerConfig, TrainConfig
from goembed_core.errors import UserError
from goembed_core.runs import Run
from goembed_core.trainer import Interrupted, Phase, Plan, Player, Terms, Trainer, learning_rate
from torch import nn

TEACHER = torch.tensor([1.0, -2.0, 0.5])


def make_plan(log: list | None = None, **extra) -> Plan:
    torch.manual_seed(0)
    student, other = nn.Linear(3, 1), nn.Linear(3, 1)

    def regress(module):
        def losses(batch, random):
            x = random.randn(3)
            if log is not None:
                log.append((module is student, tuple(random.items), x[:, 0].tolist()))
            return Terms({"mse": (module(x)[:, 0] - x @ TEACHER).square().mean()}, {"x": x.mean()})

        return losses

    settings = OptimizerConfig(lr=0.02)
    return Plan(
        modules={"student": student, "other": other},
        players={"student": Player(student, settings), "other": Player(other, settings)},
        phases=[Phase("student", "student", regress(student)), Phase("other", "other", regress(other), every=3)],
        averaged=("student",),
        **extra,
    )


def config(**changes) -> TrainConfig:
    values = {"images": 640, "batch_size": 16, "log_every_nimg": 64, "checkpoint_every_nimg": 160, "threads": None}
    return TrainConfig(**(values | changes))


def run_in(path) -> Run:
    path.mkdir(exist_ok=True)
    return Run(path, {"task": "test"})


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    state = {name: value for module in trainer.plan.modules.values() for name, value in module.state_dict().items()}
    averages = {f"ema.{name}": value for name, value in trainer.ema.modules["student"].state_dict().items()}
    moments = {
        f"{name}.{index}.{key}": value
        for name, optimizer in trainer.optimizers.items()
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }
    return state | averages | moments


def test_learns_and_logs(tmp_path):
    trainer = Trainer(run_in(tmp_path), config(images=3200, log_every_nimg=640), make_plan())
    averaged = trainer.train()
    assert torch.allclose(averaged["student"].weight[0], TEACHER, atol=0.05)
    lines = [json.loads(line) for line in trainer.run.metrics_log.read_text().splitlines()]
    assert [line["images"] for line in lines[:3]] == [640, 1280, 1920] and lines[-1]["images"] == 3200
    assert lines[-1]["student/mse"] < lines[0]["student/mse"] / 10
    assert {"student/x", "student/gradient_norm", "lr/student", "images_per_second", "memory_mib"} <= lines[-1].keys()


def test_a_resume_changes_no_bit(tmp_path):
    whole = Trainer(run_in(tmp_path / "whole"), config(), make_plan())
    whole.train()
    Trainer(run_in(tmp_path / "parts"), config(images=320), make_plan()).train()
    parts = Trainer(run_in(tmp_path / "parts"), config(), make_plan())
    parts.train()
    first, second = state_of(whole), state_of(parts)
    assert first.keys() == second.keys() and len(first) > 10
    assert all(torch.equal(first[name], second[name]) for name in first)

    def figures(trainer):
        timing = ("seconds", "images_per_second", "memory_mib")
        lines = [json.loads(line) for line in trainer.run.metrics_log.read_text().splitlines()]
        return [{key: value for key, value in line.items() if key not in timing} for line in lines]

    assert figures(whole) == figures(parts)


def test_accumulation_changes_what_is_held_not_what_is_computed(tmp_path):
    whole, micro = [], []
    one = Trainer(run_in(tmp_path / "one"), config(images=160), make_plan(whole))
    four = Trainer(run_in(tmp_path / "four"), config(images=160, micro_batch_size=4), make_plan(micro))
    one.train(), four.train()
    drawn = [value for student, _, values in whole if student for value in values]
    assert drawn == [value for student, _, values in micro if student for value in values]
    assert all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-6)
        for a, b in zip(state_of(one).values(), state_of(four).values(), strict=True)
    )
    # Adam does not see the scale of a gradient, so the norms are compared too.
    norms = [
        [json.loads(line)["student/gradient_norm"] for line in trainer.run.metrics_log.read_text().splitlines()]
        for trainer in (one, four)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_players_move_at_their_own_cadence_on_their_own_parameters(tmp_path):
    log = []
    trainer = Trainer(run_in(tmp_path), config(images=96), make_plan(log))
    trainer.train()
    assert [student for student, *_ in log] == [True, False, True, True, True, False, True, True]
    items = [item for student, items, _ in log if student for item in items]
    assert items == list(range(96))  # every item once, numbered by the images seen before it
    steps = {name: o.state_dict()["state"][0]["step"].item() for name, o in trainer.optimizers.items()}
    assert steps == {"student": 6, "other": 2}


def test_prepare_is_shared_by_the_phases(tmp_path):
    seen = []
    plan = make_plan(prepare=lambda batch, random: random.rand(1))
    phases = [
        Phase(p.name, p.player, lambda batch, random, f=p.losses: seen.append(batch) or f(batch, random))
        for p in plan.phases
    ]
    Trainer(run_in(tmp_path), config(images=16), Plan(plan.modules, plan.players, phases, prepare=plan.prepare)).train()
    assert len(seen) == 2 and seen[0] is seen[1] and seen[0].shape == (16, 1)


def test_data_is_asked_for_by_position(tmp_path):
    asked = []

    def data(positions):
        for position in positions:
            asked.extend(position)
            yield None

    Trainer(run_in(tmp_path), config(images=64), make_plan(data=data)).train()
    Trainer(run_in(tmp_path), config(images=128), make_plan(data=data)).train()
    assert asked == list(range(128))


def test_previews_and_evaluations_come_at_their_intervals(tmp_path):
    previews, evaluations = [], []

    def preview(images_seen, modules):
        assert not modules["student"].training and not modules["other"].training and not torch.is_grad_enabled()
        previews.append(images_seen)

    plan = make_plan(preview=preview, evaluate=lambda n, m: evaluations.append(n) or {"figure": n / 2})
    trainer = Trainer(run_in(tmp_path), config(images=64, preview_every_nimg=32, evaluate_every_nimg=32), plan)
    trainer.train()
    assert previews == [32, 64] and evaluations == [32, 64]
    assert '"evaluate/figure": 16.0' in trainer.run.metrics_log.read_text()
    assert plan.modules["other"].training


def test_a_stop_saves_and_says_how_to_go_on(tmp_path):
    def losses(batch, random):
        if random.items[0] == 32:
            os.kill(os.getpid(), signal.SIGTERM)
        return Terms({"size": module.weight.square().mean()})

    module = nn.Linear(1, 1)
    plan = Plan({"m": module}, {"m": Player(module, OptimizerConfig(lr=0.1))}, [Phase("m", "m", losses)])
    trainer = Trainer(run_in(tmp_path), config(), plan)
    with pytest.raises(
        Interrupted, match=r"stopped at 48 images and saved; resume with: goembed train task=test run.dir="
    ):
        trainer.train()
    assert [path.name for path in trainer.checkpoints.all()] == ["000000048"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    module = nn.Linear(1, 1)
    plan = Plan(
        {"m": module},
        {"m": Player(module, OptimizerConfig(lr=0.1))},
        [Phase("m", "m", lambda b, r: Terms({"good": module.weight.sum(), "bad": module.weight.sum() * torch.nan}))],
    )
    with pytest.raises(UserError, match=r"m/bad.* is not finite at 64 images"):
        Trainer(run_in(tmp_path), config(), plan).train()
    assert not Trainer(run_in(tmp_path), config(), plan).checkpoints.all()


def test_batch_that_does_not_divide(tmp_path):
    with pytest.raises(ValueError, match="batch_size=16 is not a multiple of micro_batch_size=5"):
        config(micro_batch_size=5)


def test_learning_rate_in_images():
    constant = OptimizerConfig(lr=1.0, warmup_nimg=100)
    assert learning_rate(constant, 0, 1000) == 0.01 and learning_rate(constant, 99, 1000) == 1.0
    cosine = OptimizerConfig(lr=2.0, decay="cosine")
    assert learning_rate(cosine, 500, 1000) == pytest.approx(1.0)
    assert learning_rate(cosine, 1000, 1000) == pytest.approx(0.0)
