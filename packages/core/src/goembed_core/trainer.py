"""The trainer: any number of players with their own optimisers and cadence, on any number of processes.

Progress is counted in images (observations) seen.  All randomness belongs to the item, so neither the number of
processes, nor accumulation, nor a resume changes what is drawn.  A task hands over a `Plan`:

    Plan(
        modules={"generator": G, "discriminator": D},           # all state to save; buffers are averaged over processes
        players={"generator": Player(G, config.generator), …},   # who is optimised, and how
        phases=[Phase("main", "generator", losses), …],          # one move each; `losses(batch, random) -> Terms`
        data=dataset_stream,                                     # positions -> batches
        averaged=("generator",),                                 # whose EMA is kept
    )
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from goembed_core.checkpoints import (
    Checkpoint,
    CheckpointFolder,
    load_modules,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
)
from goembed_core.config import TrainConfig
from goembed_core.counting import Interval, RunningMeans
from goembed_core.diffusion import Terms
from goembed_core.ema import EMA
from goembed_core.errors import UserError
from goembed_core.optimizers import (
    Player,
    learning_rate,
    make_optimizers,
    parameters_of,
    require_gradients,
    set_learning_rate,
)
from goembed_core.precision import choose_precision
from goembed_core.processes import process_state, use_cpu
from goembed_core.progress import ProgressLine, memory_mib
from goembed_core.randomness import ItemRandom
from goembed_core.runs import Run
from goembed_core.signals import Interrupted, StopSignal

__all__ = ["Phase", "Plan", "Player", "Terms", "Trainer", "fresh_items"]

Batch = Any
Data = Callable[[Iterator[Sequence[int]]], Iterable[Batch]]


class Phase(NamedTuple):
    """One move of a player: the losses whose gradient it follows, in every `every`-th step."""

    name: str
    player: str
    losses: Callable[[Batch, ItemRandom], Terms]
    every: int = 1


def fresh_items(positions: Iterator[Sequence[int]]) -> Iterator[None]:
    """The data of a task whose items are made from random numbers alone."""
    for _ in positions:
        yield None


def unchanged(batch: Batch, random: ItemRandom) -> Batch:
    """The default of `Plan.prepare`."""
    return batch


@dataclass(frozen=True)
class Plan:
    """What a task trains.

    **Arguments:**
    - `modules`: everything whose state is saved, by name.
    - `players`, `phases`: who is optimised, and the moves of one step, in order.
    - `data`: from the stream of positions of this process's micro-batches (position = observations seen before the
      item) to the stream of batches on the right device.
    - `prepare`: run once a micro-batch, without gradients, before the phases share its result.
    - `averaged`: names of the modules whose EMA is kept.
    - `independent`: no player's losses depend on another player, so that one process on a CPU may play them side by
      side, each on its share of the threads (1.3 times as fast as one after the other on all threads, for networks of
      3 M parameters on two cores).
    - `preview`, `evaluate`: called on the main process with the images seen and the averaged modules; `evaluate`
      returns figures for the log.
    """

    modules: dict[str, nn.Module]
    players: dict[str, Player]
    phases: Sequence[Phase]
    data: Data = fresh_items
    prepare: Callable[[Batch, ItemRandom], Batch] = unchanged
    averaged: tuple[str, ...] = ()
    independent: bool = False
    preview: Callable[[int, dict[str, nn.Module]], None] | None = None
    evaluate: Callable[[int, dict[str, nn.Module]], dict[str, float]] | None = None


class Trainer:
    """Runs a `Plan` until `config.images` are seen; on a run that was begun it goes on from the last checkpoint."""

    def __init__(self, run: Run, config: TrainConfig, plan: Plan, accelerator: Accelerator | None = None):
        self.run, self.config, self.plan = run, config, plan
        self.accelerator = accelerator or make_accelerator(config, run)
        self.device = self.accelerator.device
        self.micro_batch = self._micro_batch_size()
        if plan.independent and len({phase.player for phase in plan.phases}) < len(plan.phases):
            raise ValueError("independent: a player with several phases cannot play them side by side")
        for module in plan.modules.values():
            module.to(self.device)
        self.optimizers = {
            name: [self.accelerator.prepare_optimizer(optimizer) for optimizer in make_optimizers(name, player)]
            for name, player in plan.players.items()
        }
        averaged = {name: plan.modules[name] for name in plan.averaged}
        self.ema = EMA(averaged, config.ema_halflife_nimg, config.ema_rampup)
        self.checkpoints = CheckpointFolder(run.dir / "checkpoints", config.keep_checkpoints)
        self.images_seen = 0
        self.steps = 0
        self.seconds = 0.0  # of training, over all sessions
        self._sums = RunningMeans()
        self._pool: ThreadPoolExecutor | None = None

    def train(self) -> dict[str, nn.Module]:
        """Train to the end and return the averaged modules (the trained ones where no average is kept)."""
        self._resume()
        everything = [p for optimizers in self.optimizers.values() for p in parameters_of(optimizers)]
        require_gradients(everything, False)  # wanted only during a player's own moves
        try:
            with self._side_by_side():
                self._run()
        finally:
            require_gradients(everything, True)
        return {name: self.ema.modules.get(name, module) for name, module in self.plan.modules.items()}

    @contextmanager
    def _side_by_side(self) -> Iterator[None]:
        """Threads for independent players, where one process has a CPU to itself."""
        players, threads = len(self.plan.phases), torch.get_num_threads()
        alone = self.accelerator.num_processes == 1 and self.device.type == "cpu"
        if not (self.plan.independent and alone and threads >= players > 1):
            yield
            return
        with ThreadPoolExecutor(players, initializer=torch.set_num_threads, initargs=(threads // players,)) as pool:
            self._pool = pool
            try:
                yield
            finally:
                self._pool = None
                torch.set_num_threads(threads)  # the pool's threads have changed what new threads get

    def _run(self) -> None:
        began, seconds_before = time.monotonic(), self.seconds
        data = iter(self.plan.data(self._positions()))
        due = {
            name: Interval(getattr(self.config, f"{name}_every_nimg"), self.images_seen)
            for name in ("log", "preview", "evaluate", "checkpoint")
        }
        saved_at = self.images_seen
        guard = StopSignal()
        line = ProgressLine("train", self.config.images, self.images_seen, enabled=self.accelerator.is_main_process)
        with line, guard:
            while self.images_seen < self.config.images and not guard.received:
                batches = [next(data) for _ in range(self._num_micro_batches())]
                self.train_step(batches)
                self.seconds = seconds_before + time.monotonic() - began
                finished = self.images_seen >= self.config.images
                if due["log"].passed(self.images_seen) or finished:
                    line.advance_to(self.images_seen, self._log(line.rate()))
                if due["preview"].passed(self.images_seen) or finished:
                    self._on_main(self.plan.preview)
                if due["evaluate"].passed(self.images_seen):
                    figures = self._on_main(self.plan.evaluate)
                    self._write({f"evaluate/{name}": value for name, value in (figures or {}).items()})
                if due["checkpoint"].passed(self.images_seen) or finished:
                    self._save()
                    saved_at = self.images_seen
        if guard.received and self.images_seen < self.config.images:
            if saved_at != self.images_seen:
                self._save()
            raise Interrupted(f"stopped at {self.images_seen} images and saved; resume with: {self.run.command()}")

    def train_step(self, batches: Sequence[Batch]) -> None:
        """Every phase's move, on one global batch."""
        randoms = [self._random(micro) for micro in range(len(batches))]
        with torch.no_grad():
            shared = [self.plan.prepare(b, r.stream("prepare")) for b, r in zip(batches, randoms, strict=True)]
        due = [phase for phase in self.plan.phases if self.steps % phase.every == 0]
        play = map if self._pool is None else self._pool.map
        for terms in play(lambda phase: self._play(phase, shared, [r.stream(phase.name) for r in randoms]), due):
            for values in terms:
                self._sums.add(values)
        self.images_seen += self.config.batch_size
        self.steps += 1
        self._average_buffers()
        if self.plan.averaged:
            self.ema.update(self.images_seen, self.config.batch_size)

    def _play(self, phase: Phase, batches: Sequence[Batch], randoms: Sequence[ItemRandom]) -> list[dict[str, Tensor]]:
        """One move; returns what is to be logged of it."""
        player, optimizers = self.plan.players[phase.player], self.optimizers[phase.player]
        parameters = parameters_of(optimizers)
        require_gradients(parameters, True)
        set_learning_rate(optimizers, player.optimizer, self.images_seen, self.config.images)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)

        # Accumulate gradients.
        logged = []
        for batch, random in zip(batches, randoms, strict=True):
            with self.accelerator.autocast():
                terms = phase.losses(batch, random)
            total = torch.stack([loss.float() for loss in terms.losses.values()]).sum()
            self.accelerator.backward(total / len(batches))
            logged.append({f"{phase.name}/{name}": v.detach() for name, v in (terms.losses | terms.statistics).items()})
        require_gradients(parameters, False)

        # Update weights.
        for optimizer in optimizers:
            self.accelerator.unscale_gradients(optimizer)
        self._average_gradients(parameters)
        if self.config.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
            logged.append({f"{phase.name}/gradient_norm": norm})
        for optimizer in optimizers:
            optimizer.step()
        return logged

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        # By hand rather than by DDP: several phases, frozen players and double backward need no special case.
        if self.accelerator.num_processes == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
        for parameter, mean in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = mean.view_as(parameter)

    def _average_buffers(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        for module in self.plan.modules.values():
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.accelerator.reduce(buffer, reduction="mean"))

    def _random(self, micro: int) -> ItemRandom:
        return ItemRandom(self.config.seed, self._items(self.images_seen, micro), device=self.device)

    def _items(self, images_seen: int, micro: int) -> range:
        local = self.config.batch_size // self.accelerator.num_processes
        first = images_seen + self.accelerator.process_index * local + micro * self.micro_batch
        return range(first, first + self.micro_batch)

    def _positions(self) -> Iterator[Sequence[int]]:
        for images_seen in range(self.images_seen, self.config.images, self.config.batch_size):
            for micro in range(self._num_micro_batches()):
                yield self._items(images_seen, micro)

    def _num_micro_batches(self) -> int:
        return self.config.batch_size // self.accelerator.num_processes // self.micro_batch

    def _micro_batch_size(self) -> int:
        processes, batch = self.accelerator.num_processes, self.config.batch_size
        micro = self.config.micro_batch_size or max(1, batch // processes)
        if batch % (processes * micro):
            raise UserError(
                f"train.batch_size={batch} is not a multiple of {processes} processes x train.micro_batch_size={micro}"
            )
        return micro

    def _on_main(self, function: Callable | None) -> Any:
        if function is None or not self.accelerator.is_main_process:
            return None
        modules = {name: self.ema.modules.get(name, module) for name, module in self.plan.modules.items()}
        training = [module for module in modules.values() if module.training]
        for module in training:
            module.eval()
        with torch.no_grad():
            result = function(self.images_seen, modules)
        for module in training:
            module.train()
        return result

    def _log(self, rate: float) -> str:
        means = self._sums.pop()
        if self.accelerator.num_processes > 1:
            means = self.accelerator.reduce(means, reduction="mean")
        values = {name: value.item() for name, value in means.items()}
        self._write(
            values
            | {
                f"lr/{n}": learning_rate(p.optimizer, self.images_seen, self.config.images)
                for n, p in self.plan.players.items()
            }
            | {"images_per_second": rate, "memory_mib": memory_mib(self.device), "seconds": self.seconds}
        )
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"{', '.join(bad)} is not finite at {self.images_seen} images; the run stops, and its last checkpoint "
                f"({self.run.dir / 'checkpoints'}) is from before. Lower the learning rate or set train.clip_norm"
            )
        return ", ".join(f"{name} {values[name]:.4g}" for name in list(values)[:3])

    def _write(self, values: dict[str, float]) -> None:
        if values and self.accelerator.is_main_process:
            self.run.append_metrics({"images": self.images_seen, **values})
            self.accelerator.log(values, step=self.images_seen)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            tensors, settings = {}, {}
            for name, optimizer in self._named_optimizers():
                own, settings[name] = optimizer_tensors(name, optimizer)
                tensors |= own
            groups = {"modules": module_tensors(self.plan.modules), "optimizers": tensors}
            if self.plan.averaged:
                groups["ema"] = module_tensors(self.ema.modules)
            scaler = self.accelerator.scaler
            state = {
                "images_seen": self.images_seen,
                "steps": self.steps,
                "seconds": self.seconds,
                "optimizers": settings,
                "scaler": scaler.state_dict() if scaler is not None else None,
            }
            self.checkpoints.save(self.images_seen, Checkpoint(groups, state))
        self.accelerator.wait_for_everyone()

    def _named_optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        for player, optimizers in self.optimizers.items():
            for prepared in optimizers:
                muon = isinstance(prepared.optimizer, torch.optim.Muon)
                yield f"{player}-muon" if muon else player, prepared.optimizer

    def _resume(self) -> None:
        checkpoint = self.checkpoints.newest(self.accelerator.print)
        if checkpoint is None:
            self.run.truncate_metrics(0)
            return
        groups, state = checkpoint
        load_modules(self.plan.modules, groups["modules"])
        if self.plan.averaged:
            load_modules(self.ema.modules, groups["ema"])
        for name, optimizer in self._named_optimizers():
            load_optimizer(name, optimizer, groups["optimizers"], state["optimizers"][name])
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.images_seen, self.steps, self.seconds = state["images_seen"], state["steps"], state["seconds"]
        if self.accelerator.is_main_process:
            self.run.truncate_metrics(self.images_seen)
        self.accelerator.print(f"resumed at {self.images_seen} of {self.config.images} images")


def make_accelerator(config: TrainConfig, run: Run) -> Accelerator:
    """Accelerate's view of the machine: device, processes, precision and trackers."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = process_state().device
    accelerator = Accelerator(
        cpu=use_cpu(),
        mixed_precision=choose_precision(config.mixed_precision, device),
        log_with=list(config.trackers) or None,
        project_dir=str(run.dir),
    )
    if config.trackers:
        accelerator.init_trackers("goembed", config={"run": str(run.dir)})
    return accelerator
