"""Laws of every component that maps a batch: forward models, denoisers, encoders.  `F` is the component."""

from __future__ import annotations

from typing import Any

import torch

from goembed_core.errors import UserError
from goembed_core.testing.case import Case, items
from goembed_core.testing.compare import (
    clone,
    differs,
    global_states,
    moved_generators,
    require_same,
    shape_text,
)
from goembed_core.testing.laws import Broken, NotApplicable, law
from goembed_core.trees import concatenate, named_leaves, tree_map


@law(
    "every number of the output is finite",
    cause="a division, root or logarithm at the edge of its domain; clamp its argument",
)
def finite_output(case: Case) -> None:
    model = case.build()
    trials = {f"for example {seed}": case.inputs(batch=8, seed=seed) for seed in range(4)}
    if case.kind == "forward-model" and callable(getattr(model, "origin", None)):
        trials["at the origin"] = trials["for example 0"]._replace(signal=model.origin(8, torch.device("cpu")))
    for where, inputs in trials.items():
        for name, leaf in named_leaves(case.call(model, inputs), "output").items():
            wrong = int((~leaf.isfinite()).sum())
            if wrong:
                raise Broken(f"{wrong} of {leaf.numel()} numbers of the {name} are not finite {where}")


@law(
    "no signal sees its neighbours in the batch: F([a, b]) = [F(a), F(b)]",
    cause="a statistic over the batch (BatchNorm, a mean without dim), or one item's parameters used for all",
)
def batch_consistency(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    half = case.batch // 2
    for mode in case.modes(model):
        whole = case.call(model, inputs)
        parts = [case.call(model, items(inputs, part)) for part in (slice(half), slice(half, None))]
        require_same(concatenate(parts, 0), whole, case.traits.tolerance, f"[F(a), F(b)] against F([a, b]) {mode}")


@law(
    "the same inputs give the same output",
    cause="random numbers within the call; a forward model has none, noise is the signal's or φ's",
)
def determinism(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    for mode in case.modes(model):
        first = clone(case.call(model, inputs))
        require_same(case.call(model, inputs), first, 0.0, f"a second call {mode}")


@law(
    "the process-wide random generators are left alone: random numbers come from a torch.Generator that is passed",
    cause="torch.manual_seed, torch.randn without a generator, numpy.random or random within the call",
)
def global_rng(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    for mode in case.modes(model):
        before = global_states()
        case.call(model, inputs)
        moved = moved_generators(before)
        if moved:
            raise Broken(f"a call moved the generator of {' and of '.join(moved)} {mode}")


@law(
    "the inputs are not written to",
    cause="an operation in place (`+=`, `clamp_`, `x[...] = `) on an input or on a view of it",
)
def inputs_untouched(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    given = named_leaves(inputs, "")
    before = {name: (leaf.clone(), leaf._version) for name, leaf in given.items()}
    case.raw_call(model, inputs)
    for name, leaf in given.items():
        old, version = before[name]
        if leaf.shape != old.shape or not torch.equal(leaf.nan_to_num(), old.nan_to_num()):
            raise Broken(f"{name} holds other values after the call")
        if leaf._version != version:
            raise Broken(f"{name} was written to {leaf._version - version} times, though its values are the same")


@law(
    "the output depends on this call's inputs alone, not on earlier calls",
    cause="a cache whose key leaves out an input (or is an id, a shape), a buffer that is used again, a counter",
)
def independent_calls(case: Case) -> None:
    a, b = case.inputs(), case.inputs(seed=1)
    used = case.build()
    first = case.raw_call(used, clone(a))
    kept = clone(first)
    tolerance = case.traits.tolerance
    trials = {"other inputs": b}
    trials |= {f"another {name}": a._replace(**{name: getattr(b, name)}) for name in a._fields}
    for what, inputs in trials.items():
        try:
            expected = case.call(case.build(), inputs)
        except UserError:
            continue  # the parts do not go together, and the component says so
        require_same(
            case.raw_call(used, clone(inputs)),
            expected,
            tolerance,
            f"a call with {what}, against the first of its kind",
        )
    require_same(first, kept, 0.0, "an earlier output, after later calls")
    require_same(case.raw_call(used, clone(a)), kept, tolerance, "the first inputs again, after others")

    reused = clone(a)
    case.raw_call(used, reused)
    tree_map(lambda leaf, new: leaf.copy_(new), reused, b)
    expected = case.call(case.build(), b)
    require_same(case.raw_call(used, reused), expected, tolerance, "new values in the same tensors")


@law(
    "how the inputs lie in memory does not matter",
    cause="`view` where `reshape` is meant, or a stride taken for granted",
)
def memory_layout(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    strided = tree_map(_transposed, inputs)
    found, expected = case.call(model, strided), case.call(model, inputs)
    require_same(found, expected, case.traits.tolerance, "inputs with other strides")


def _transposed(leaf: torch.Tensor) -> torch.Tensor:
    """The same values, the first dimension running fastest."""
    order = tuple(reversed(range(leaf.dim())))
    return leaf.permute(order).contiguous().permute(order)


@law(
    "a batch of one signal keeps its dimensions",
    cause="`squeeze()` without a dimension, or an unpacking that takes a size of 1 for absent",
)
def size_one(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    whole, one = case.call(model, inputs), case.call(model, items(inputs, slice(1)))
    expected = tree_map(lambda leaf: leaf[:1], whole)
    _require_shapes(one, expected, "one signal")
    if case.kind == "forward-model" and inputs.params:
        single = inputs._replace(params=tree_map(lambda leaf: leaf[:, :1], inputs.params))
        expected = tree_map(lambda leaf: leaf[:, :1], whole)
        _require_shapes(case.call(model, single), expected, "one view of each signal")
        _require_shapes(case.call(model, items(single, slice(1))), expected[:1], "one view of one signal")


@law("a batch without signals gives an output without signals", cause="a reduction, reshape(-1) or stack over nothing")
def empty_batch(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    expected = tree_map(lambda leaf: leaf[:0], case.call(model, inputs))
    _require_shapes(case.call(model, items(inputs, slice(0))), expected, "no signals")


def _require_shapes(found: Any, expected: Any, what: str) -> None:
    ours, theirs = shape_text(found), shape_text(expected)
    if ours != theirs:
        raise Broken(f"{what}: the output is {ours}, expected {theirs}")


def require_influence(case: Case, trials: dict[str, Any], base: Any) -> None:
    """Raise `Broken` for the inputs whose change leaves the output as it is; `trials` are by what was changed."""
    model = case.build()
    output = case.call(model, base)
    judged, ignored = 0, []
    for what, inputs in trials.items():
        if not differs(inputs, base):
            continue  # the example always gives the same
        try:
            changed = case.call(model, inputs)
        except UserError:
            continue  # the parts do not go together, and the component says so
        judged += 1
        if not differs(changed, output):
            ignored.append(what)
    if ignored:
        raise Broken(f"other values of {' and of '.join(ignored)} give the very same output")
    if not judged:
        raise NotApplicable(f"the example always gives the same {' and '.join(trials) or 'values'}")
