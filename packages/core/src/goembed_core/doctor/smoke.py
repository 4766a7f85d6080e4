"""One forward and one backward pass of every forward model and denoiser that is installed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from goembed_core.config import ComponentConfig, Config, resolve, validate_params
from goembed_core.doctor.finding import Finding
from goembed_core.errors import PluginError, UserError
from goembed_core.plugins import Component, describe, host, spoken

KINDS = ("forward-model", "denoiser")


def check_components() -> Iterator[Finding]:
    """Build each component by its defaults, or as a task has it, and push an example through it and back."""
    composed = dict(_composed())
    for component in host().components:
        if component.kind in KINDS:
            yield _try(component, composed.get((component.kind, component.name)))


def _composed() -> Iterator[tuple[tuple[str, str], Any]]:
    """The settings that installed tasks give to components, for those that have no defaults."""
    for component in host().components:
        if component.kind == "task":
            try:
                config = resolve(component.qualified_name, []).config
            except UserError:
                continue
            for section in (getattr(config, field) for field in type(config).model_fields):
                if isinstance(section, ComponentConfig):
                    yield (section.kind, section.name.rpartition(":")[2]), section.settings


def _try(component: Component, settings: Any) -> Finding:
    name = f"{spoken(component.kind)} {component.name}"
    more = f"goembed check {component.kind} {component.qualified_name}"
    began = time.monotonic()
    try:
        target, config = component.load(), _settings(component, settings)
        figures = _pass(component.kind, target() if config is None else target(config))
    except PluginError as error:
        return Finding(name, "failed", describe(error), f"update or reinstall {component.distribution}")
    except UserError as error:  # weights or settings that only the user has
        return Finding(name, "skipped", f"cannot be tried by itself: {error}", f"with settings: {more} key=value")
    except Exception as error:
        owner = f"{component.distribution} {component.version}".strip()
        return Finding(name, "failed", f"{describe(error)} (in {owner})", f"{more} says more")
    return Finding(name, "ok", f"{figures}, {time.monotonic() - began:.1f} s")


def _settings(component: Component, composed: Any) -> Config | None:
    """The component's defaults, or else what a task gives it."""
    try:
        return validate_params(component, None)
    except UserError:
        if composed is None:
            raise
        return composed


def _pass(kind: str, model: Any) -> str:
    """Forward and backward on this machine's device; says which gradient there was, or raises."""
    import torch
    from torch import nn

    from goembed_core.trees import tree_map

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if isinstance(model, nn.Module):
        model.to(device)
    example = tree_map(lambda leaf: leaf.to(device), tuple(model.example(2, torch.Generator().manual_seed(0))))
    leaves: list[torch.Tensor] = []
    if kind == "forward-model":
        signal = tree_map(lambda leaf: _track(leaf, leaves), example[0])
        output = model(signal, example[1])
    else:
        leaves += [weight for weight in model.parameters() if weight.requires_grad]
        output = model(*example)
    total = torch.zeros((), device=device)
    tree_map(lambda leaf: _add(total, leaf), output)
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    found = [gradient for gradient in gradients if gradient is not None]
    if not found or not all(gradient.isfinite().all() for gradient in found):
        raise ArithmeticError("the gradient is not finite" if found else "no gradient arrives")
    return f"forward and backward on {device}"


def _track(leaf: Any, leaves: list[Any]) -> Any:
    """The leaf, asked for its gradient if it can have one."""
    if leaf.is_floating_point():
        leaf = leaf.clone().requires_grad_()
        leaves.append(leaf)
    return leaf


def _add(total: Any, leaf: Any) -> Any:
    total += leaf.float().square().mean()
    return leaf
