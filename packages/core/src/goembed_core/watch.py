"""What has to be known of every step: that all was finite, and whether a process was asked to stop.

The flags are computed on the device and read a step later where reading them would make the host wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from safetensors.torch import save_file
from torch import Tensor

from goembed_core.errors import UserError
from goembed_core.trees import named_tensors


class Move(NamedTuple):
    """What a phase did in a step."""

    phase: str
    names: tuple[str, ...]  # of its losses, and "gradient_norm"
    bad: Bool[Tensor, " names"]  # not finite, on any process
    logged: list[dict[str, Tensor]]  # one for each micro-batch, and one for the move


class Step(NamedTuple):
    """A step whose flags are on their way to the host."""

    images_seen: int
    moves: tuple[Move, ...]
    batches: Sequence[Any]
    flags: Tensor  # on the host once `event` has come: bad flags of all moves, then the wish to stop
    event: Any

    def wait(self) -> list[bool]:
        """The flags."""
        if self.event is not None:
            self.event.synchronize()
        return self.flags.tolist()


class Watch:
    """Looks at the flags of all steps, at most `lag` steps late.

    **Arguments:**
    - `device`: of the training; on a GPU flags are read one step late.
    - `skip`: count steps that are not finite, instead of stopping.
    - `folder`: where the batch of such a step is kept.
    - `rank`: of the process, for the file's name.
    """

    def __init__(self, device: torch.device, skip: bool, folder: Path, rank: int):
        self.skip, self.folder, self.rank = skip, folder, rank
        self.lag = 1 if device.type == "cuda" else 0
        self.skipped = 0
        self._steps: deque[Step] = deque()

    def add(self, images_seen: int, moves: Sequence[Move], batches: Sequence[Any], stop: Tensor) -> None:
        """A step has been taken (or not, where it was bad)."""
        flags = torch.cat([*(move.bad for move in moves), stop.bool().reshape(1)])
        event = None
        if flags.device.type == "cuda":
            host = torch.empty(flags.shape, dtype=torch.bool, pin_memory=True)
            flags = host.copy_(flags, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._steps.append(Step(images_seen, tuple(moves), batches, flags, event))

    def settle(self, lag: int | None = None) -> bool:
        """Look at all steps but the last `lag`; says whether a process wants to stop.

        UserError for a step that is not finite, unless such steps are skipped.
        """
        stop = False
        while len(self._steps) > (self.lag if lag is None else lag):
            step = self._steps.popleft()
            *bad, wish = step.wait()
            stop |= wish
            if any(bad):
                self._report(step, bad)
        return stop

    def _report(self, step: Step, bad: list[bool]) -> None:
        names = [f"{move.phase}/{name}" for move in step.moves for name in move.names]
        guilty = [name for name, flag in zip(names, bad, strict=True) if flag]
        losses = [name for name in guilty if not name.endswith("/gradient_norm")]
        named = ", ".join(losses) if losses else "the gradient of " + ", ".join(n.rsplit("/", 1)[0] for n in guilty)
        if self.skip:
            self.skipped += 1
            return
        raise UserError(
            f"{named} is not finite in the step after {step.images_seen} images; the step was not taken"
            f"{self._keep(step)}. Lower the learning rate or set train.clip_norm; or train.on_nonfinite=skip"
        )

    def _keep(self, step: Step) -> str:
        tensors = {k: v.detach().contiguous().cpu().clone() for k, v in named_tensors(list(step.batches)).items()}
        if not tensors:
            return ""
        path = self.folder / f"step-{step.images_seen:09d}-process-{self.rank}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
        return f", and its batch is kept in {path}"
