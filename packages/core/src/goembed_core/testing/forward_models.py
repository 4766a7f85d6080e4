"""The laws of forward models, `O = F(S, φ)`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from goembed_core.testing import calling, state
from goembed_core.testing.building import builds, require_example
from goembed_core.testing.case import Case, moved, num_views, views
from goembed_core.testing.compare import cast, largest_error, require_same, shape_text
from goembed_core.testing.laws import Broken, NotApplicable, law
from goembed_core.testing.refusals import require_refusals
from goembed_core.trees import named_leaves, tree_map


@law(
    "example(B, generator) gives B signals and φ, a NamedTuple whose leaves are (B, V, ...), by the generator alone",
    cause="a fixed batch size, a missing dimension of views, or random numbers that are not the generator's",
    is_prerequisite=True,
)
def example(case: Case) -> None:
    for inputs in require_example(case):
        batch, signal, params = inputs.batch, inputs.example.signal, inputs.example.params
        if not (isinstance(params, tuple) and hasattr(params, "_fields")):
            raise Broken(f"φ is a {type(params).__name__}, expected a NamedTuple of tensors")
        shapes = {name: tuple(leaf.shape) for name, leaf in named_leaves(params, "params").items()}
        if any(len(shape) < 2 for shape in shapes.values()) or len({shape[:2] for shape in shapes.values()}) > 1:
            raise Broken(f"example({batch}) gives φ with {shape_text(params)}, expected each ({batch}, V, ...)")
        known = {"not_differentiable": named_leaves(signal, "signal"), "ignored_params": shapes}
        for field, leaves in known.items():
            unknown = set(getattr(case.traits, field)) - set(leaves)
            if unknown:
                raise Broken(f"{field} names {', '.join(sorted(unknown))}; the leaves are {', '.join(leaves)}")


@law(
    "F(S, φ) is a floating-point tensor (B, V, *observation)",
    cause="views and signals in the wrong order, flattened into one dimension or not at all",
    is_prerequisite=True,
)
def observes(case: Case) -> None:
    inputs = case.inputs()
    output = case.call(case.build(), inputs)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        what = f"{output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        raise Broken(f"the output is {what}, expected a floating-point tensor")
    expected = (case.batch, num_views(inputs.params)) if inputs.params else (case.batch,)
    if output.dim() < 2 or tuple(output.shape[: len(expected)]) != expected:
        raise Broken(
            f"{case.batch} signals seen under {num_views(inputs.params)} φ each give {tuple(output.shape)}, "
            f"expected ({', '.join(map(str, expected))}, ...)"
        )


def _require_params(inputs: Any) -> None:
    if not inputs.params:
        raise NotApplicable("φ has no leaves")


@law(
    "a view does not depend on the others: F(S, [φ1, φ2]) = [F(S, φ1), F(S, φ2)]",
    cause="a mean or maximum over the views, or the φ of one view used for all",
)
def view_consistency(case: Case) -> None:
    inputs = case.with_views()
    _require_params(inputs)
    half = num_views(inputs.params) // 2
    model = case.build()
    parts = [case.call(model, views(inputs, part)) for part in (slice(half), slice(half, None))]
    whole = case.call(model, inputs)
    require_same(torch.cat(parts, 1), whole, case.traits.tolerance, "[F(S, φ1), F(S, φ2)] against F(S, [φ1, φ2])")


@law(
    "the order of the views does not matter: F(S, π φ) = π F(S, φ)",
    cause="something that depends on the number of a view, such as an arange or a running sum over them",
)
def view_order(case: Case) -> None:
    inputs = case.with_views()
    _require_params(inputs)
    order = torch.arange(num_views(inputs.params)).flip(0)
    model = case.build()
    whole, turned = case.call(model, inputs), case.call(model, views(inputs, order))
    require_same(turned, whole[:, order], case.traits.tolerance, "views in reverse")


@law(
    "every leaf of the signal counts",
    cause="a leaf that is never read; leave it out of the signal",
)
def signal_used(case: Case) -> None:
    base, other = case.inputs(), case.inputs(seed=1)
    trials = {name: base._replace(signal=value) for name, value in _one_leaf_of("signal", base, other).items()}
    calling.require_influence(case, trials, base)


@law(
    "every leaf of φ counts, unless it is declared in `ignored_params`",
    cause="a leaf of φ that is never read, or that is overwritten by a constant",
)
def params_used(case: Case) -> None:
    base, other = case.inputs(), case.inputs(seed=1)
    _require_params(base)
    changed = _one_leaf_of("params", base, other)
    trials = {
        name: base._replace(params=value) for name, value in changed.items() if name not in case.traits.ignored_params
    }
    calling.require_influence(case, trials, base)


def _one_leaf_of(field: str, base: Any, other: Any) -> dict[str, Any]:
    """By the name of a leaf: the tree of `base` with that leaf of `other`."""
    ours, theirs = getattr(base, field), getattr(other, field)
    changed = {}
    for number, name in enumerate(named_leaves(ours, field)):
        count = iter(range(len(named_leaves(ours, field))))
        changed[name] = tree_map(
            lambda a, b, number=number, count=count: b if next(count) == number and a.shape == b.shape else a,
            ours,
            theirs,
        )
    return changed


def _differentiable(case: Case, inputs: Any, *, declared: bool = True) -> tuple[Any, dict[str, Tensor]]:
    """The inputs with a signal that wants a gradient, and its leaves that do."""
    excluded = case.traits.not_differentiable
    names = iter(named_leaves(inputs.signal, "signal"))
    leaves: dict[str, Tensor] = {}

    def want(leaf: Tensor) -> Tensor:
        name = next(names)
        if leaf.is_floating_point() and (name not in excluded) == declared:
            leaf = leaves[name] = leaf.detach().clone().requires_grad_()
        return leaf

    return inputs._replace(signal=tree_map(want, inputs.signal)), leaves


def _gradients(case: Case, inputs: Any, leaves: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradient of a random sum of the output; `{}` if there is nothing to ask for, or the output has none."""
    output = case.build()(*inputs)
    if not leaves or not output.requires_grad:
        return {}
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=output.dtype)
    found = torch.autograd.grad(output, list(leaves.values()), weights, allow_unused=True)
    return dict(zip(leaves, found, strict=True))


@law(
    "the gradient reaches every leaf of the signal that is declared differentiable: finite, and not zero",
    cause="the output is detached from the signal (no_grad, `.detach()`, `.data`, `.item()`, numpy, rounding)",
)
def gradient(case: Case) -> None:
    inputs, leaves = _differentiable(case, case.inputs())
    if leaves:
        found = _gradients(case, inputs, leaves)
        for name in leaves:
            value = found.get(name)
            if value is None:
                raise Broken(f"no gradient arrives at {name}: the output does not hang on it")
            if not value.isfinite().all():
                raise Broken(
                    f"the gradient at {name} has {int((~value.isfinite()).sum())} numbers that are not finite",
                    "the derivative of a root, norm or division at zero",
                )
            if not value.any():
                raise Broken(f"the gradient at {name} is zero everywhere", "a step: rounding, comparison, sign")
    inputs, others = _differentiable(case, case.inputs(), declared=False)
    reached = [name for name, value in _gradients(case, inputs, others).items() if value is not None and value.any()]
    if reached:
        raise Broken(f"{', '.join(reached)} is declared not_differentiable, but its gradient is not zero")
    if not leaves:
        raise NotApplicable("no leaf of the signal is differentiable")


def _numerical(case: Case) -> tuple[Any, tuple[Tensor, ...]]:
    """The forward model as a function of its differentiable leaves, in float64, of two signals."""
    model = moved(case.build(), torch.float64)
    inputs, leaves = _differentiable(case, cast(case.inputs(batch=2), torch.float64))
    if not leaves:
        raise NotApplicable("no leaf of the signal is differentiable")
    every = named_leaves(inputs.signal, "signal")

    def function(*given: Tensor) -> Tensor:
        values = iter({**every, **dict(zip(leaves, given, strict=True))}.values())
        return model(tree_map(lambda _: next(values), inputs.signal), inputs.params)

    if not function(*leaves.values()).requires_grad:
        raise Broken("the output is detached from the signal")
    return function, tuple(leaves.values())


@law(
    "the gradient is that of finite differences, in float64",
    cause="a backward written by hand, or part of the way detached; declare kinks and steps as an expected failure",
)
def gradcheck(case: Case) -> None:
    function, leaves = _numerical(case)
    _numerically(torch.autograd.gradcheck, function, leaves)


@law(
    "second derivatives are those of finite differences, which gradient-origin embeddings train through",
    cause="a backward written by hand that is not differentiable itself (`once_differentiable`, numpy)",
)
def second_gradient(case: Case) -> None:
    if not (case.traits.twice_differentiable or callable(getattr(case.build(), "origin", None))):
        raise NotApplicable("neither declared (`twice_differentiable`) nor implied by a method `origin`")
    function, leaves = _numerical(case)
    _numerically(torch.autograd.gradgradcheck, function, leaves, gen_non_contig_grad_outputs=False)


def _numerically(test: Any, function: Any, leaves: tuple[Tensor, ...], **options: Any) -> None:
    try:
        test(function, leaves, fast_mode=True, check_undefined_grad=False, **options)
    except RuntimeError as error:  # GradcheckError, and what a backward raises
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise Broken(" ".join(" ".join(lines[:4]).split())) from error


@law(
    "origin(B, device) gives B signals like those of the example, where the gradient is finite",
    cause="a single origin that is not repeated, or one in another space",
)
def origin(case: Case) -> None:
    model = case.build()
    if not callable(getattr(model, "origin", None)):
        raise NotApplicable("it has no method `origin`")
    signal = model.origin(case.batch, torch.device("cpu"))
    given, expected = shape_text(signal), shape_text(case.inputs().signal)
    if given != expected:
        raise Broken(f"origin({case.batch}) is {given}, the example's signal is {expected}")
    require_same(model.origin(case.batch, torch.device("cpu")), signal, 0.0, "a second origin")
    inputs, leaves = _differentiable(case, case.inputs()._replace(signal=signal))
    for name, value in _gradients(case, inputs, leaves).items():
        if value is not None and not value.isfinite().all():
            wrong = f"{int((~value.isfinite()).sum())} of {value.numel()}"
            raise Broken(f"the gradient at {name} has {wrong} numbers that are not finite", "a root or norm at zero")


@law(
    "what does not fit is refused in words: UserError or ValueError with the sizes that were given",
    cause="broadcasting made sense of it, or torch failed deep within; check shapes at the door "
    "(`goembed_core.shapes.require_views`)",
)
def shape_errors(case: Case) -> None:
    model, sizes = case.build(), set()
    for leaf in named_leaves(case.inputs(), "").values():
        sizes |= set(leaf.shape[1:])
    batch = next(size for size in (5, 7, 11, 13) if size not in sizes)
    inputs = case.inputs(batch)
    trials = {"signals without the dimension of the batch": inputs._replace(signal=_first(inputs.signal))}
    if inputs.params:
        fewer, one = (tree_map(lambda leaf, n=n: leaf[:n], inputs.params) for n in (batch - 2, 1))
        trials |= {
            f"φ of {batch - 2} signals for {batch} signals": inputs._replace(params=fewer),
            f"φ of 1 signal for {batch} signals": inputs._replace(params=one),
            "φ without the dimension of views": inputs._replace(params=_first_view(inputs.params)),
        }
    require_refusals(trials, lambda given: case.call(model, given))


def _first(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf[0], tree)


def _first_view(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf[:, 0], tree)


@law(
    "the output is that of the oracle, in float64",
    cause="coordinates: pixel centres lie at (i + 0.5) / N, x runs along the last dimension",
)
def oracle(case: Case) -> None:
    if case.oracle is None:
        raise NotApplicable("no `oracle` is declared")
    model, inputs = moved(case.build(), torch.float64), cast(case.inputs(), torch.float64)
    found = case.call(model, inputs)
    with torch.no_grad():
        expected = case.oracle(model, *inputs)
    if found.shape == expected.shape and largest_error(found, expected) > case.traits.tolerance:
        raise Broken(
            f"it differs from the oracle by {largest_error(found, expected):.2g} of the largest value, "
            f"where {case.traits.tolerance:.2g} is allowed",
            diagnosis(found, expected),
        )
    require_same(found, expected, case.traits.tolerance, "against the oracle")


def diagnosis(found: Tensor, expected: Tensor) -> str | None:
    """What the oracle's output would have to suffer to be like the one found, if it is something that happens."""
    if expected.dim() < 4:
        return None
    suspects = {"the output is upside down": expected.flip(-2), "the output is mirrored": expected.flip(-1)}
    if expected.shape[-1] == expected.shape[-2]:
        suspects["the last two axes, rows and columns, are swapped"] = expected.transpose(-1, -2)
    for axis, letter in ((-1, "x"), (-2, "y")):
        for step in (1, -1):
            shifted = expected.roll(step, axis)
            suspects[f"the output is shifted by a whole pixel in {letter}"] = shifted
            suspects[f"the output is shifted by about half a pixel in {letter}"] = _half_pixel(expected, step, axis)
            for other in (1, -1):
                both = _half_pixel(_half_pixel(expected, step, -1), other, -2)
                suspects[f"the output is shifted by about half a pixel in x and y ({step:+}, {other:+})"] = both
    inner = (..., slice(1, -1), slice(1, -1))  # roll brings the other edge in
    errors = {name: float((found - value)[inner].square().sum()) for name, value in suspects.items()}
    nearest = min(errors, key=errors.__getitem__)
    return nearest if errors[nearest] < 0.25 * float((found - expected)[inner].square().sum()) else None


def _half_pixel(image: Tensor, step: int, axis: int) -> Tensor:
    """An image moved by half a pixel in the direction of `step`, by cubic interpolation."""
    taps = {-1: -1, 0: 9, 1: 9, 2: -1}
    return sum(weight / 16 * image.roll(step * offset, axis) for offset, weight in taps.items())


LAWS = (
    builds, example, observes, state.config_round_trip, state.config_untouched, calling.finite_output,
    calling.batch_consistency, view_consistency, view_order, calling.determinism, calling.global_rng,
    calling.inputs_untouched, calling.independent_calls, calling.memory_layout, signal_used, params_used, gradient,
    gradcheck, second_gradient, origin, state.dtype, state.bfloat16, state.device, state.state_dict, calling.size_one,
    calling.empty_batch, shape_errors, state.compiles, state.vmaps, oracle,
)  # fmt: skip
