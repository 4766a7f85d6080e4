"""The gradient of a forward model's error in the signal: by autograd, in parts, or by the forward model's shortcut."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from goembed_core.errors import UserError
from goembed_core.precision import at_least_float32, without_autocast
from goembed_core.protocols import Observations, OriginPullback
from goembed_core.trees import named_leaves, tree_map
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Part(NamedTuple):
    """Some of a batch's observations, and what each of their numbers weighs in the error."""

    observations: Observations
    weight: Float[Tensor, "batch views ..."] | None  # None: one
    share: Float[Tensor, "#batch"]  # of each number in the error of its signal


def error_gradient(forward_model: Any, signal: Any, parts: Sequence[Part], record: bool) -> list[Tensor]:
    """`∇_S Σ_b Σ share · weight · (O − forward(S, φ))²`, leaf by leaf.

    **Arguments:**
    - `signal`: leaves `(B, ...)` that take part in differentiation.
    - `parts`: several are gone through one after the other, and again for the gradient's own gradient; then only one
      of them is held at a time.
    - `record`: the gradient can be differentiated, in the signal, the observations and the forward model.
    """
    leaves = leaves_of(signal)
    if len(parts) == 1:
        error = squared_error(forward_model, signal, parts[0])
        return list(torch.autograd.grad(error, leaves, create_graph=record, materialize_grads=True))
    given = [leaf for part in parts for leaf in leaves_of(part)]
    weights = list(forward_model.parameters()) if isinstance(forward_model, nn.Module) else []
    weights = [weight for weight in weights if weight.requires_grad]
    return list(_InParts.apply(_Problem(forward_model, signal, tuple(parts)), *leaves, *weights, *given))


def shortcut_gradient(
    forward_model: OriginPullback, origin: Any, parts: Sequence[Part], record: bool
) -> list[Tensor] | None:
    """The same at the origin, by the forward model's own adjoint; None where it has none that holds.

    One part is held at a time, unless it is recorded.
    """
    total: list[Tensor] | None = None
    with torch.set_grad_enabled(record):
        for part in parts:
            view = forward_model.origin_pullback(origin, part.observations.params)
            if view is None:
                return None
            residual = _residual(view.values, part.observations.values)
            if part.weight is not None:
                residual = residual * part.weight
            share = part.share.reshape(-1, *(1,) * (residual.dim() - 1))
            found = leaves_of(view.pullback(2 * residual * share))
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    return total


def squared_error(forward_model: Any, signal: Any, part: Part) -> Float[Tensor, ""]:
    """The error of a part, summed over the batch."""
    residual = _residual(forward_model(signal, part.observations.params), part.observations.values)
    square = residual.square()
    if part.weight is not None:
        square = square * part.weight
    return (square.flatten(1).sum(1) * part.share).sum()


def leaves_of(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    return list(named_leaves(tree, "signal").values())


class _Problem(NamedTuple):
    forward_model: Any
    signal: Any
    parts: tuple[Part, ...]


class _InParts(torch.autograd.Function):
    """The sum of the parts' gradients, none of whose graphs is kept: each is made again for its own gradient."""

    @staticmethod
    def forward(ctx: Any, problem: _Problem, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.problem = problem
        ctx.save_for_backward(*tensors)
        total: list[Tensor] | None = None
        for part in problem.parts:
            signal, wanted = _fresh(problem.signal, everything=True)
            with torch.enable_grad():
                error = squared_error(problem.forward_model, signal, part)
            found = torch.autograd.grad(error, wanted, materialize_grads=True)
            total = list(found) if total is None else [a + b for a, b in zip(total, found, strict=True)]
        return tuple(total or ())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        forward_model, whole, parts = ctx.problem
        tensors = ctx.saved_tensors  # which also makes sure that nobody has written to them
        number = len(leaves_of(whole))
        totals: list[Tensor | None] = [None] * len(tensors)
        begin = len(tensors) - sum(len(leaves_of(part)) for part in parts)
        shared = list(tensors[number:begin])
        for part in parts:
            own = range(begin, begin + len(leaves_of(part)))
            begin = own.stop
            with torch.enable_grad(), without_autocast(tensors[0].device):
                signal, leaves = _fresh(whole, everything=True)
                fresh, wanted = _fresh(part, everything=False)
                error = squared_error(forward_model, signal, fresh)
                found = torch.autograd.grad(error, leaves, create_graph=True, materialize_grads=True)
                aligned = sum(((f * c).sum() for f, c in zip(found, cotangents, strict=True)), error.new_zeros(()))
                if not aligned.requires_grad:  # linear in the signal, and nothing is learned
                    continue
                places = [*range(number), *range(number, number + len(shared))]
                places += [n for n in own if tensors[n].requires_grad]
                slopes = torch.autograd.grad(aligned, [*leaves, *shared, *wanted], allow_unused=True)
            for place, slope in zip(places, slopes, strict=True):
                before = totals[place]
                totals[place] = slope if before is None or slope is None else before + slope
                if slope is None:
                    totals[place] = before
        return (None, *totals)


def _fresh(tree: Any, everything: bool) -> tuple[Any, list[Tensor]]:
    """A tree of leaves of their own graph, and those that are differentiated: all, or those that were before."""
    wanted: list[Tensor] = []

    def renew(leaf: Tensor) -> Tensor:
        if not everything and not leaf.requires_grad:
            return leaf
        wanted.append(leaf.detach().requires_grad_())
        return wanted[-1]

    return tree_map(renew, tree), wanted


def _residual(estimate: Tensor, values: Tensor) -> Tensor:
    if estimate.shape != values.shape:
        raise UserError(
            f"the forward model gives observations of shape {tuple(estimate.shape)}, and those to encode have "
            f"{tuple(values.shape)}: expected one shape"
        )
    return at_least_float32(estimate) - values


Draw = Callable[..., Observations]  # (observations, random, step) to as many numbers of each
Split = Callable[[Observations], Sequence[Observations]]  # to parts that are all of them together


def parts_of(
    observations: Observations,
    weight: Tensor | None,
    share: Float[Tensor, "#batch"],
    split: Split | None,
    chunk_views: int | None,
) -> list[Part]:
    """The observations in parts: as `split` says, else some views at a time."""
    masks: list[Any]
    views = observations.values.shape[1]
    if split is not None:
        parts = list(split(observations))
        masks = (
            [None] * len(parts) if weight is None else [p.values for p in split(observations._replace(values=weight))]
        )
    elif chunk_views is not None and chunk_views < views:
        ranges = [slice(n, n + chunk_views) for n in range(0, views, chunk_views)]
        parts = [tree_map(lambda leaf, r=r: leaf[:, r], observations) for r in ranges]
        masks = [None if weight is None else weight[:, r] for r in ranges]
    else:
        parts, masks = [observations], [weight]
    numbers = sum(part.values.numel() for part in parts)
    if numbers != observations.values.numel():
        raise UserError(
            f"split gives parts of {numbers} numbers together, and the observations have "
            f"{observations.values.numel()}: expected parts that are all of them"
        )
    return [Part(part, mask, share) for part, mask in zip(parts, masks, strict=True)]


def numbers_of(values: Tensor) -> int:
    """The numbers of one observation."""
    return math.prod(values.shape[2:])
