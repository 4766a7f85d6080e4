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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import gather_object
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
    step_unless,
)
from goembed_core.plan import Batch, Phase, Plan, fresh_items
from goembed_core.precision import at_least_float32, choose_precision
from goembed_core.processes import process_state, use_cpu
from goembed_core.progress import ProgressLine, memory_mib
from goembed_core.randomness import ItemRandom, global_state, restore_global_state
from goembed_core.runs import Run
from goembed_core.signals import Interrupted, StopSignal
from goembed_core.watch import Move, Watch

__all__ = ["Phase", "Plan", "Player", "Terms", "Trainer", "fresh_items"]


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
        rank, skip = self.accelerator.process_index, config.on_nonfinite == "skip"
        self._watch = Watch(self.device, skip, run.dir / "nonfinite", rank)
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
        workers = min(players, threads)
        if not (self.plan.independent and alone and workers > 1):
            yield
            return
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
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
            stopped = False
            while self.images_seen < self.config.images and not stopped:
                batches = [next(data) for _ in range(self._num_micro_batches())]
                self.train_step(batches, guard.received)
                self.seconds = seconds_before + time.monotonic() - began
                finished = self.images_seen >= self.config.images
                stopped = self._watch.settle() or (guard.received and self.accelerator.num_processes == 1)
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
        if stopped and self.images_seen < self.config.images:
            if saved_at != self.images_seen:
                self._save()
            raise Interrupted(f"stopped at {self.images_seen} images and saved; resume with: {self.run.command()}")

    def train_step(self, batches: Sequence[Batch], stop: bool = False) -> None:
        """Every phase's move, on one global batch; `stop` tells the other processes of a wish to stop."""
        randoms = [self._random(micro) for micro in range(len(batches))]
        with torch.no_grad():
            shared = [self.plan.prepare(b, r.stream("prepare")) for b, r in zip(batches, randoms, strict=True)]
        due = [phase for phase in self.plan.phases if self.steps % phase.every == 0]
        play = map if self._pool is None else self._pool.map
        moves = list(play(lambda phase: self._play(phase, shared, [r.stream(phase.name) for r in randoms]), due))
        for move in moves:
            for values in move.logged:
                self._sums.add(values)
        self._watch.add(self.images_seen, moves, shared, self._anywhere(torch.tensor(stop, device=self.device)))
        self.images_seen += self.config.batch_size
        self.steps += 1
        self._average_buffers()
        if self.plan.averaged:
            self.ema.update(self.images_seen, self.config.batch_size)

    def _play(self, phase: Phase, batches: Sequence[Batch], randoms: Sequence[ItemRandom]) -> Move:
        player, optimizers = self.plan.players[phase.player], self.optimizers[phase.player]
        parameters = parameters_of(optimizers)
        require_gradients(parameters, True)
        set_learning_rate(optimizers, player.optimizer, self.images_seen, self.config.images)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)

        # Accumulate gradients.
        logged, bad = [], []
        for batch, random in zip(batches, randoms, strict=True):
            with self.accelerator.autocast():
                terms = phase.losses(batch, random)
            losses = torch.stack([at_least_float32(loss) for loss in terms.losses.values()])
            self.accelerator.backward(losses.sum() / len(batches))
            bad.append(~losses.detach().isfinite())
            logged.append({f"{phase.name}/{name}": v.detach() for name, v in (terms.losses | terms.statistics).items()})
        require_gradients(parameters, False)
        names, flags = tuple(terms.losses), torch.stack(bad).any(0)

        # Update weights, if all is finite.
        for optimizer in optimizers:
            self.accelerator.unscale_gradients(optimizer)
        self._average_gradients(parameters)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.config.clip_norm, norm)
        logged.append({f"{phase.name}/gradient_norm": norm})
        if self.accelerator.scaler is not None:  # which looks for itself, and finds overflows that are no error
            for optimizer in optimizers:
                optimizer.step()
            return Move(phase.name, names, self._anywhere(flags), logged)
        flags = self._anywhere(torch.cat([flags, ~norm.isfinite().reshape(1)]))
        step_unless(optimizers, flags.any())
        return Move(phase.name, (*names, "gradient_norm"), flags, logged)

    def _anywhere(self, flags: Tensor) -> Tensor:
        """Flags that are true on any process."""
        if self.accelerator.num_processes == 1:
            return flags
        return self.accelerator.reduce(flags.float(), reduction="sum") > 0

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
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        skipped = {"skipped_steps": self._watch.skipped} if self.config.on_nonfinite == "skip" else {}
        self._write(
            values
            | skipped
            | {
                f"lr/{n}": learning_rate(p.optimizer, self.images_seen, self.config.images)
                for n, p in self.plan.players.items()
            }
            | {"images_per_second": rate, "memory_mib": memory_mib(self.device), "seconds": self.seconds}
        )
        return ", ".join(f"{name} {values[name]:.4g}" for name in list(values)[:3])

    def _write(self, values: dict[str, float]) -> None:
        if values and self.accelerator.is_main_process:
            self.run.append_metrics({"images": self.images_seen, **values})
            self.accelerator.log(values, step=self.images_seen)

    def _save(self) -> None:
        self._watch.settle(0)
        own = self._sums.state() | global_state(self.device)
        processes = gather_object([{key: value.cpu() for key, value in own.items()}])
        if self.accelerator.is_main_process:
            tensors, settings = {}, {}
            for name, optimizer in self._named_optimizers():
                own, settings[name] = optimizer_tensors(name, optimizer)
                tensors |= own
            groups = {"modules": module_tensors(self.plan.modules), "optimizers": tensors}
            if self.plan.averaged:
                groups["ema"] = module_tensors(self.ema.modules)
            groups["processes"] = {f"{rank}/{key}": v for rank, p in enumerate(processes) for key, v in p.items()}
            scaler = self.accelerator.scaler
            state = {
                "images_seen": self.images_seen,
                "steps": self.steps,
                "seconds": self.seconds,
                "optimizers": settings,
                "processes": len(processes),
                "skipped_steps": self._watch.skipped,
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
        self._watch.skipped = state["skipped_steps"]
        self._load_process(groups["processes"], state["processes"])
        if self.accelerator.is_main_process:
            self.run.truncate_metrics(self.images_seen)
        self.accelerator.print(f"resumed at {self.images_seen} of {self.config.images} images")

    def _load_process(self, tensors: dict[str, Tensor], saved: int) -> None:
        """What belonged to this process; under another number of processes, the mean of what is logged."""
        own = {key: value.to(self.device) for key, value in tensors.items() if "/rng/" not in key}
        parts = [{k.removeprefix(f"{r}/"): v for k, v in own.items() if k.startswith(f"{r}/")} for r in range(saved)]
        if saved == self.accelerator.num_processes:
            rank = self.accelerator.process_index
            self._sums.load_state(parts[rank])
            rng = {k.removeprefix(f"{rank}/"): v for k, v in tensors.items() if k.startswith(f"{rank}/rng/")}
            restore_global_state(rng, self.device)
        else:
            self._sums.load_state({key: torch.stack([part[key] for part in parts]).mean(0) for key in parts[0]})


def make_accelerator(config: TrainConfig, run: Run) -> Accelerator:
    """Accelerate's view of the machine: device, processes, precision and trackers."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _require_trackers(config.trackers)
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


def _require_trackers(names: Sequence[str]) -> None:
    """UserError for a tracker that is not installed, which Accelerate would leave out."""
    available = {str(tracker) for tracker in get_available_trackers()}
    missing = [name for name in names if name != "all" and name not in available]
    if missing:
        raise UserError(
            f"train.trackers={', '.join(missing)}: not installed here; install it, or leave it out "
            f"(metrics.jsonl is always written); installed: {', '.join(sorted(available)) or 'none'}"
        )
