"""Players of a training, and what moves them: Adam, or Muon beside it, and learning rates over the images seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from goembed_core.config import OptimizerConfig
from goembed_core.errors import UserError

SHARE = "share"  # of a group's learning rate in that of the settings


class Player(NamedTuple):
    """Parameters that are optimised together."""

    module: nn.Module
    optimizer: OptimizerConfig


def make_optimizers(name: str, player: Player) -> list[torch.optim.Optimizer]:
    """Adam for all of a player's parameters; or Muon (Jordan et al. 2024) for its hidden matrices, Adam for the rest.

    Muon takes the step of a matrix with all its singular values made equal, so that rare directions are learnt too.
    Its updates get the scale of a matrix's shape (`muon_lr` is about 0.02 whatever the size).  Of modules with a
    learning rate of their own (`module_lr`) the outermost counts.
    """
    config = player.optimizer
    named = {n: p for n, p in player.module.named_parameters() if p.requires_grad}
    hidden = []
    if config.muon_lr is not None:
        modules = set(config.muon_modules)
        hidden = [p for n, p in named.items() if p.ndim == 2 and modules.intersection(n.split(".")[:-1])]
        if not hidden:
            raise UserError(
                f"muon_modules={list(config.muon_modules)}: no matrix of {name} is in a module of such a name; its "
                f"parameters are {', '.join(list(named)[:8])}, …"
            )
    taken = {id(p) for p in hidden}
    rest = {n: p for n, p in named.items() if id(p) not in taken}
    adam = torch.optim.AdamW(
        _groups(name, config, rest),
        fused=next(iter(rest.values())).device.type in ("cpu", "cuda"),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )
    muon = [torch.optim.Muon(hidden, lr=config.muon_lr, weight_decay=config.weight_decay)] if hidden else []
    return [adam, *muon]


def _groups(name: str, config: OptimizerConfig, named: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Parameters by what their learning rate is in that of the settings."""
    members: dict[str | None, list[nn.Parameter]] = {None: []} | {module: [] for module in config.module_lr}
    for full, parameter in named.items():
        members[next((part for part in full.split(".")[:-1] if part in config.module_lr), None)].append(parameter)
    for module in config.module_lr:
        if not members[module]:
            raise UserError(
                f"module_lr.{module}: no parameter of {name} is in a module of such a name; they are "
                f"{', '.join(list(named)[:8])}, …"
            )
    shares = {module: lr / config.lr for module, lr in config.module_lr.items()}
    groups = [{"params": members[module], SHARE: share} for module, share in shares.items()]
    return [{"params": members[None]}, *groups] if members[None] else groups


def step_unless(optimizers: Sequence[torch.optim.Optimizer], bad: Bool[Tensor, ""]) -> None:
    """One step of every optimiser, or none if `bad`; on a GPU this is decided there, and the host does not wait."""
    for optimizer in optimizers:
        if bad.device.type != "cpu":
            step_where(~bad, getattr(optimizer, "optimizer", optimizer))
        elif not bad:
            optimizer.step()


def step_where(good: Bool[Tensor, ""], optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()` whose effect on parameters and state is undone, on their device, where `good` is false."""
    if optimizer.defaults.get("fused"):  # has a place for this: what a gradient scaler found
        optimizer.found_inf, optimizer.grad_scale = (~good).float(), None
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf, optimizer.grad_scale
        return
    parameters = parameters_of([optimizer])
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = torch.where(good, parameter.grad, 0.0)
    state = [v for entry in optimizer.state.values() for v in entry.values() if isinstance(v, Tensor)]
    before = [(value, value.detach().clone()) for value in [*parameters, *state]]
    optimizer.step()
    with torch.no_grad():
        for value, old in before:
            value.copy_(torch.where(good, value, old))


def parameters_of(optimizers: Sequence[torch.optim.Optimizer]) -> list[nn.Parameter]:
    """All parameters that some optimisers move."""
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]


def require_gradients(parameters: Sequence[nn.Parameter], wanted: bool) -> None:
    """Whether the parameters take part in differentiation."""
    for parameter in parameters:
        parameter.requires_grad_(wanted)


def set_learning_rate(
    optimizers: Sequence[torch.optim.Optimizer], config: OptimizerConfig, images_seen: int, images: int
) -> None:
    """Give every optimiser of a player its learning rate after `images_seen` of `images`."""
    lr = learning_rate(config, images_seen, images)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            muon = "ns_steps" in group  # of the Newton-Schulz iteration
            group["lr"] = lr * (config.muon_lr / config.lr if muon else group.get(SHARE, 1.0))


def learning_rate(config: OptimizerConfig, images_seen: int, images: int) -> float:
    """The learning rate after `images_seen` of `images`: linear warm-up, then constant or a cosine to zero."""
    warmup = min(1.0, (images_seen + 1) / config.warmup_nimg) if config.warmup_nimg else 1.0
    decay = 0.5 + 0.5 * math.cos(math.pi * min(1.0, images_seen / images)) if config.decay == "cosine" else 1.0
    return config.lr * warmup * decay
