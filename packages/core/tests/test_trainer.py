"""The trainer: what is drawn, who moves when, and that a resume changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import signal
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from accelerate.utils import LoggerType
from goembed_core import trainer as trainer_module
from goembed_core.config import OptimizerConfig, TrainConfig
from goembed_core.errors import UserError
from goembed_core.optimizers import learning_rate, make_optimizers, step_where
from goembed_core.randomness import ItemRandom
from goembed_core.runs import Run
from goembed_core.trainer import Interrupted, Phase, Plan, Player, Terms, Trainer
from safetensors.torch import load_file
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


def test_a_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "get_available_trackers", lambda: [LoggerType.WANDB])
    said = r"train\.trackers=aim, mlflow: not installed here; .*; installed: wandb$"
    with pytest.raises(UserError, match=said):
        Trainer(run_in(tmp_path), config(trackers=["aim", "all", "wandb", "mlflow"]), make_plan())
    trainer_module._require_trackers(["all"])


class Residual(nn.Module):
    """A network with hidden matrices, between a first and a last layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x).tanh()
        return self.last(x)


def make_muon_plan(muon_lr: float | None = 0.02, **extra) -> Plan:
    torch.manual_seed(0)
    networks = {"student": Residual(), "other": Residual()}

    def regress(module):
        def losses(batch, random):
            x = random.randn(3)
            return Terms({"mse": (module(x)[:, 0] - (x @ TEACHER).sin()).square().mean()})

        return losses

    settings = OptimizerConfig(lr=0.01, muon_lr=muon_lr, decay="cosine")
    return Plan(
        modules=networks,
        players={name: Player(network, settings) for name, network in networks.items()},
        phases=[Phase(name, name, regress(network)) for name, network in networks.items()],
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
        for name, optimizer in trainer._named_optimizers()
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
    steps = {name: o.state_dict()["state"][0]["step"].item() for name, o in trainer._named_optimizers()}
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


class Poisoned:
    """The loss of one step, or its gradient, is not finite."""

    def __init__(self, module: nn.Module, at: int, gradient: bool = False):
        self.module, self.at, self.gradient = module, at, gradient

    def __call__(self, batch, random) -> Terms:
        loss = (self.module(batch.x)[:, 0] - batch.x @ TEACHER).square().mean()
        bad = self.at in random.items
        if bad and self.gradient:
            loss = loss + (self.module.weight.sum() * 0).sqrt()  # 0, of infinite slope
        return Terms({"mse": loss, "bad": loss * (torch.nan if bad and not self.gradient else 1)})


class Points(NamedTuple):
    x: torch.Tensor


def poisoned_plan(at: int, gradient: bool = False) -> Plan:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    return Plan(
        {"student": module},
        {"student": Player(module, OptimizerConfig(lr=0.02))},
        [Phase("student", "student", Poisoned(module, at, gradient))],
        prepare=lambda batch, random: Points(random.randn(3)),
        averaged=("student",),
    )


@pytest.mark.parametrize("gradient", [False, True])
def test_what_is_not_finite_stops_the_run_before_it_touches_the_weights(tmp_path, gradient):
    clean = Trainer(run_in(tmp_path / "clean"), config(images=320), poisoned_plan(-1))
    clean.train()
    plan = poisoned_plan(325, gradient)
    trainer = Trainer(run_in(tmp_path / "bad"), config(), plan)
    named = "the gradient of student is" if gradient else "student/bad is"
    kept = tmp_path / "bad" / "nonfinite" / "step-000000320-process-0.safetensors"
    with pytest.raises(
        UserError, match=f"{named} not finite in the step after 320 images; .*{kept}.*on_nonfinite=skip"
    ):
        trainer.train()
    one, two = state_of(clean), state_of(trainer)
    assert all(torch.equal(one[name], two[name]) for name in one if not name.startswith("ema."))
    batch = load_file(kept)
    assert batch["0.x"].shape == (16, 3)
    assert torch.equal(batch["0.x"], ItemRandom(0, range(320, 336), "prepare").randn(3))


@pytest.mark.parametrize("gradient", [False, True])
def test_a_step_that_is_not_finite_can_be_skipped_and_is_counted(tmp_path, gradient):
    trainer = Trainer(run_in(tmp_path), config(on_nonfinite="skip"), poisoned_plan(325, gradient))
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped_steps"] for line in lines] == [0] * 5 + [1] * 5
    assert all(math.isfinite(value) for line in lines for value in line.values())
    ((_, adam),) = trainer._named_optimizers()
    assert adam.state_dict()["state"][0]["step"].item() == 39  # of 40
    assert not (tmp_path / "nonfinite").exists()
    again = Trainer(run_in(tmp_path), config(images=656, on_nonfinite="skip"), poisoned_plan(325, gradient))
    again.train()
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["images"] == 656 and last["skipped_steps"] == 1


@pytest.mark.parametrize("muon_lr", [None, 0.02])
def test_a_step_that_is_undone_on_the_device_leaves_no_trace(muon_lr):
    def network_and_optimizers():
        torch.manual_seed(0)
        network = Residual()
        return network, make_optimizers("n", Player(network, OptimizerConfig(lr=0.01, muon_lr=muon_lr)))

    def give_gradients(network, value):
        generator = torch.Generator().manual_seed(1)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator) * value

    (one, plain), (two, undone) = network_and_optimizers(), network_and_optimizers()
    for value, good in ((1.0, True), (torch.nan, False), (0.5, True), (torch.inf, False), (2.0, True)):
        if good:
            give_gradients(one, value)
            for optimizer in plain:
                optimizer.step()
        give_gradients(two, value)
        for optimizer in undone:
            step_where(torch.tensor(good), optimizer)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    for optimizer, other in zip(plain, undone, strict=True):
        for entry, expected in zip(other.state.values(), optimizer.state.values(), strict=True):
            assert all(torch.equal(entry[key], expected[key]) for key in expected)


def test_the_first_step_can_be_undone_too():
    torch.manual_seed(0)
    network = Residual()
    before = {name: value.clone() for name, value in network.named_parameters()}
    for optimizer in make_optimizers("n", Player(network, OptimizerConfig(lr=0.01, muon_lr=0.02))):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, torch.nan)
        step_where(torch.tensor(False), optimizer)
        assert all(v.isfinite().all() for e in optimizer.state.values() for v in e.values())
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_a_resume_between_two_lines_of_the_log_changes_no_line(tmp_path):
    """The log is due every 64 images, the stop comes at 176: the sums of the line begun are kept."""
    whole = Trainer(run_in(tmp_path / "whole"), config(), make_plan())
    whole.train()
    plan = make_plan()
    plan.modules["student"].register_forward_pre_hook(StopAfter(11))
    with pytest.raises(Interrupted, match="stopped at 176 images"):
        Trainer(run_in(tmp_path / "parts"), config(), plan).train()
    Trainer(run_in(tmp_path / "parts"), config(), make_plan()).train()
    one, two = (computed(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert one == two and len(one) == 10


def computed(log: Path) -> list[dict]:
    """The lines of a log without what is measured of the machine."""
    measured = ("seconds", "images_per_second", "memory_mib")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


def test_networks_that_draw_from_the_global_generator_resume_too(tmp_path):
    def plan() -> Plan:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

        def losses(batch, random):
            x = random.randn(3)
            return Terms({"mse": (module(x)[:, 0] - x @ TEACHER).square().mean()})

        return Plan(
            {"student": module},
            {"student": Player(module, OptimizerConfig(lr=0.02))},
            [Phase("student", "student", losses)],
            averaged=("student",),
        )

    whole = Trainer(run_in(tmp_path / "whole"), config(), plan())
    whole.train()
    Trainer(run_in(tmp_path / "parts"), config(images=320), plan()).train()
    parts = Trainer(run_in(tmp_path / "parts"), config(), plan())
    parts.train()
    one, two = state_of(whole), state_of(parts)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(tmp_path):
    run = run_in(tmp_path)
    Trainer(run, config(images=160), make_plan()).train()
    trainer = Trainer(run, config(images=320), make_plan())
    checkpoints = tmp_path / "checkpoints"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))  # as on a full disk: a write fails half way
        with pytest.raises(UserError, match=r"checkpoint .*000000320 cannot be written: .*the earlier ones are whole"):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert [path.name for path in checkpoints.iterdir()] == ["000000160"]
    again = Trainer(run, config(images=320), make_plan())
    again.train()
    whole = Trainer(run_in(tmp_path / "whole"), config(images=320), make_plan())
    whole.train()
    one, two = state_of(whole), state_of(again)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_batch_that_does_not_divide(tmp_path):
    with pytest.raises(ValueError, match="batch_size=16 is not a multiple of micro_batch_size=5"):
        config(micro_batch_size=5)


def test_learning_rate_in_images():
    constant = OptimizerConfig(lr=1.0, warmup_nimg=100)
    assert learning_rate(constant, 0, 1000) == 0.01 and learning_rate(constant, 99, 1000) == 1.0
    cosine = OptimizerConfig(lr=2.0, decay="cosine")
    assert learning_rate(cosine, 500, 1000) == pytest.approx(1.0)
    assert learning_rate(cosine, 1000, 1000) == pytest.approx(0.0)


def test_muon_moves_the_hidden_matrices_and_adam_the_rest(tmp_path):
    trainer = Trainer(run_in(tmp_path), config(images=16), make_muon_plan())
    network = trainer.plan.modules["student"]
    before = {name: value.clone() for name, value in network.named_parameters()}
    trainer.train()
    adam, muon = trainer.optimizers["student"]
    moved_by = {
        id(p): name for name, o in (("adam", adam), ("muon", muon)) for g in o.param_groups for p in g["params"]
    }
    names = {name: moved_by[id(parameter)] for name, parameter in network.named_parameters()}
    assert {name for name, mover in names.items() if mover == "muon"} == {"blocks.0.weight", "blocks.1.weight"}
    # Muon's step has about equal singular values where the gradient's own are far apart.
    step = network.blocks[0].weight.detach() - before["blocks.0.weight"]
    of_step, of_gradient = (torch.linalg.svdvals(x) for x in (step / 0.02, network.blocks[0].weight.grad))
    assert of_step[3] > 0.5 and of_step[0] < 1.5
    assert of_gradient[3] < 0.3 * of_gradient[0]


def test_both_learning_rates_follow_the_images(tmp_path):
    trainer = Trainer(run_in(tmp_path), config(images=640), make_muon_plan())
    trainer.images_seen = 320
    trainer.train_step([None])
    adam, muon = (optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers["other"])
    assert adam == pytest.approx(0.005) and muon == pytest.approx(0.01)


def make_two_rate_plan(**rates):
    """As with Muon, without it: blocks, or others, learn at rates of their own."""
    plan = make_muon_plan()
    for name in ("student", "other"):
        settings = OptimizerConfig(lr=0.01, decay="cosine", module_lr=rates)
        plan.players[name] = plan.players[name]._replace(optimizer=settings)
    return plan


def test_modules_learn_at_rates_of_their_own_that_follow_the_images(tmp_path):
    trainer = Trainer(run_in(tmp_path), config(images=640), make_two_rate_plan(blocks=0.002))
    trainer.images_seen = 320
    trainer.train_step([None])
    (adam,) = trainer.optimizers["student"]
    rates = {id(p): group["lr"] for group in adam.param_groups for p in group["params"]}
    for name, parameter in trainer.plan.modules["student"].named_parameters():
        expected = 0.001 if name.startswith("blocks.") else 0.005
        assert rates.pop(id(parameter)) == pytest.approx(expected)
    assert not rates


def test_a_training_with_rates_of_modules_resumes_bit_for_bit(tmp_path):
    long = config(images=640)
    whole = Trainer(run_in(tmp_path / "whole"), long, make_two_rate_plan(blocks=0.002))
    whole.train()
    interrupted = Trainer(run_in(tmp_path / "parts"), long, make_two_rate_plan(blocks=0.002))
    interrupted.plan.modules["student"].register_forward_pre_hook(StopAfter(5))
    with pytest.raises(Interrupted):
        interrupted.train()
    again = Trainer(run_in(tmp_path / "parts"), long, make_two_rate_plan(blocks=0.002))
    again.train()
    one, two = state_of(whole), state_of(again)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_rate_of_a_module_that_there_is_not_says_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"module_lr\.blokcs: no parameter of student is in a module of such a name"):
        Trainer(run_in(tmp_path), config(), make_two_rate_plan(blokcs=0.1))


def test_muon_learns_and_resumes_bit_for_bit(tmp_path):
    long = config(images=6400)
    whole = Trainer(run_in(tmp_path / "whole"), long, make_muon_plan())
    whole.train()
    first = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[0])["student/mse"]
    last = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1])["student/mse"]
    assert last < 0.5 * first
    halved = make_muon_plan()
    interrupted = Trainer(run_in(tmp_path / "parts"), long, halved)
    interrupted.plan.modules["student"].register_forward_pre_hook(StopAfter(25))
    with pytest.raises(Interrupted):
        interrupted.train()
    again = Trainer(run_in(tmp_path / "parts"), long, make_muon_plan())
    again.train()
    one, two = state_of(whole), state_of(again)
    assert one.keys() == two.keys() and any("student-muon" in name for name in one)
    assert all(torch.equal(one[name], two[name]) for name in one)


class StopAfter:
    """A hook that asks the process to stop at its n-th call."""

    def __init__(self, calls: int):
        self.calls = calls

    def __call__(self, *_):
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def test_muon_without_matrices_says_what_there_is(tmp_path):
    plan = make_plan()
    settings = OptimizerConfig(lr=0.02, muon_lr=0.02)
    plan.players["student"] = plan.players["student"]._replace(optimizer=settings)
    with pytest.raises(
        UserError, match=r"muon_modules=\['blocks'\]: no matrix of student .*parameters are weight, bias"
    ):
        Trainer(run_in(tmp_path), config(), plan)


def test_independent_players_side_by_side_are_the_same_training(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        apart = Trainer(run_in(tmp_path / "apart"), config(), make_muon_plan())
        apart.train()
        seen = set()
        plan = make_muon_plan(independent=True)
        for module in plan.modules.values():
            module.register_forward_pre_hook(lambda *_: seen.add((threading.get_ident(), torch.get_num_threads())))
        together = Trainer(run_in(tmp_path / "together"), config(), plan)
        together.train()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert threading.get_ident() not in {ident for ident, _ in seen} and {count for _, count in seen} == {1}
    one, two = state_of(apart), state_of(together)
    assert all(torch.allclose(one[name], two[name], rtol=1e-5, atol=1e-7) for name in one)
    logs = [
        [json.loads(line)["student/mse"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("apart", "together")
    ]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_networks_side_by_side_are_players_of_their_own():
    plan = make_muon_plan()
    losses = {phase.player: phase.losses for phase in plan.phases}
    optimizer = plan.players["student"].optimizer
    found = Plan.side_by_side(plan.modules, optimizer, losses | {"absent": None}, prepare=print)
    assert found == dataclasses.replace(plan, averaged=("student", "other"), independent=True, prepare=print)


def test_an_error_of_an_independent_player_reaches_the_caller(tmp_path):
    plan = make_muon_plan(independent=True)

    def fails(batch, random):
        raise ValueError("no loss today")

    plan.phases[1] = plan.phases[1]._replace(losses=fails)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="no loss today"):
            Trainer(run_in(tmp_path), config(), plan).train()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_player_with_two_moves_is_not_independent(tmp_path):
    plan = make_muon_plan(independent=True)
    plan.phases.append(plan.phases[0]._replace(name="again"))
    with pytest.raises(ValueError, match="several phases"):
        Trainer(run_in(tmp_path), config(), plan)
