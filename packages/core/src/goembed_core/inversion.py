"""Inversion: optimise a signal's variables, in stages, until the forward model shows what was observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from goembed_core.config.solvers import Stage

ItemLosses = Callable[[Mapping[str, Tensor]], dict[str, Float[Tensor, " batch"]]]


class Inversion(NamedTuple):
    """The best variables of each item, and the losses along the way."""

    variables: dict[str, Tensor]  # (B, ...)
    loss: Float[Tensor, " batch"]  # at those variables, under the last stage's weights
    history: dict[str, Float[Tensor, "steps batch"]]


class InversionStep(NamedTuple):
    """What a callback sees after every step."""

    stage: int
    step: int
    num_steps: int
    variables: Mapping[str, Tensor]


def invert(
    variables: Mapping[str, Float[Tensor, "batch ..."]],
    losses: ItemLosses,
    stages: Sequence[Stage],
    callback: Callable[[InversionStep], None] | None = None,
) -> Inversion:
    """Minimise `losses` over `variables`, from where they are; items are independent of each other.

    The gradient of a sum of per-item losses and Adam, which is elementwise, keep the items apart: an item's result is
    the same alone and in any batch.  The best variables of each item within the last stage are returned, so an
    inversion never ends worse than its last stage began.

    **Arguments:**
    - `variables`: start values, each `(B, ...)`.  Not modified.
    - `losses`: from variables to the terms of the loss, each `(B,)`, differentiable.
    - `stages`: run in order; later stages start where the earlier ones ended.
    - `callback`: called after every step.
    """
    current = {name: value.detach().clone() for name, value in variables.items()}
    trail: dict[str, list[Tensor]] = {}
    best, best_loss = current, torch.empty(0)
    for number, stage in enumerate(stages):
        moving = _moving(stage, current)
        leaves = [current[name].requires_grad_() for name in moving]
        optimizer = torch.optim.Adam(leaves, lr=stage.lr, betas=(0.9, 0.99))
        best, best_loss = {}, None
        for step in range(stage.steps + 1):  # the last evaluation only judges the last step
            with torch.enable_grad():
                terms = losses(current)
                total = sum(stage.weights.get(name, 1.0) * term for name, term in terms.items())
            for name, term in (terms | {"total": total}).items():
                trail.setdefault(name, []).append(term.detach())
            best, best_loss = _keep_better(best, best_loss, current, total.detach())
            if step == stage.steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * _rampdown(step / stage.steps, stage.rampdown)
            with torch.enable_grad():
                gradients = torch.autograd.grad(total.sum(), leaves)
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.grad = gradient
            optimizer.step()
            if callback is not None:
                callback(InversionStep(number, step, stage.steps, {k: v.detach() for k, v in current.items()}))
        current = {name: value.detach().clone() for name, value in best.items()}
    history = {name: torch.stack(values) for name, values in trail.items()}
    return Inversion(current, best_loss, history)


def _moving(stage: Stage, variables: Mapping[str, Tensor]) -> list[str]:
    unknown = set(stage.variables) - set(variables)
    if unknown:
        raise ValueError(f"stage moves {sorted(unknown)}, but the variables are {sorted(variables)}")
    return [name for name in variables if not stage.variables or name in stage.variables]


def _rampdown(progress: float, fraction: float) -> float:
    remaining = 1.0 - progress
    return 1.0 if remaining >= fraction else 0.5 - 0.5 * torch.cos(torch.tensor(torch.pi * remaining / fraction)).item()


def _keep_better(best, best_loss, current, loss):  # no comparison on the host: one `where` per variable
    if best_loss is None:
        return {name: value.detach().clone() for name, value in current.items()}, loss.clone()
    better = loss < best_loss
    kept = {
        name: torch.where(better.view(-1, *(1,) * (value.ndim - 1)), value.detach(), best[name])
        for name, value in current.items()
    }
    return kept, torch.where(better, loss, best_loss)
