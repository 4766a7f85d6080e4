"""The laws of denoisers, `S = D(O_ctxt, O_t, t)`, and of encoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from goembed_core.protocols import Observations
from goembed_core.testing import calling, state
from goembed_core.testing.building import builds, require_example
from goembed_core.testing.case import Case
from goembed_core.testing.compare import require_same, shape_text
from goembed_core.testing.laws import Broken, NotApplicable, law
from goembed_core.testing.refusals import require_refusals
from goembed_core.trees import named_leaves, select_views, tree_map

OBSERVED = ("context", "noisy_target", "observations")  # the inputs that are observations


@law(
    "example(B, generator) gives the inputs of B signals by the generator alone: Observations (B, V, ...), times (B,)",
    cause="a fixed batch size, a missing dimension of views, or random numbers that are not the generator's",
    is_prerequisite=True,
)
def example(case: Case) -> None:
    for drawn in require_example(case):
        fields = drawn.example._asdict()
        for name in OBSERVED:
            part = fields.get(name)
            if part is None and name in ("observations", "noisy_target") and name in fields:
                raise Broken(f"{name} is None, expected Observations")
            if part is None:
                continue
            if not isinstance(part, Observations):
                raise Broken(f"{name} is a {type(part).__name__}, expected Observations(values, params)")
            shapes = {tuple(leaf.shape[:2]) for leaf in named_leaves(part, name).values()}
            if len(shapes) > 1 or part.values.dim() < 3:
                expected = f"({drawn.batch}, V, ...)"
                raise Broken(f"{name} of example({drawn.batch}) is {shape_text(part)}, expected {expected}")
        _check_timestep(case, fields["timestep"], drawn.batch)


def _check_timestep(case: Case, timestep: Tensor | None, batch: int) -> None:
    if timestep is None and case.kind == "encoder":
        return
    if timestep is None or tuple(timestep.shape) != (batch,) or bool((timestep < 0).any()):
        raise Broken(f"timestep of example({batch}) is {timestep}, expected ({batch},) numbers from 0")
    if batch > 1 and bool((timestep == timestep[0]).all()):
        raise Broken(f"timestep of example({batch}) is {timestep.tolist()}: signals need different ones")


@law(
    "the output is a tensor or a NamedTuple of floating-point tensors, each (B, ...)",
    cause="a dimension of views where the batch belongs, or a dictionary where a NamedTuple is meant",
    is_prerequisite=True,
)
def output(case: Case) -> None:
    found = case.call(case.build(), case.inputs())
    try:
        leaves = named_leaves(found, "output")
    except TypeError as error:
        raise Broken(f"the output is a {type(found).__name__}") from error
    wrong = [name for name, leaf in leaves.items() if leaf.shape[:1] != (case.batch,) or not leaf.is_floating_point()]
    if wrong or not leaves:
        raise Broken(f"{case.batch} signals give {shape_text(found)}; {', '.join(wrong) or 'nothing'} of that fits")


@law("the output depends on the timestep", cause="the timestep, or its embedding, is never read")
def timestep_used(case: Case) -> None:
    if case.kind == "encoder" and not case.traits.uses_timestep:
        raise NotApplicable("not declared (`uses_timestep`)")
    base = case.inputs()
    calling.require_influence(case, {"the timestep": base._replace(timestep=base.timestep.roll(1))}, base)


@law(
    "an integer timestep and the same one in floating point mean the same",
    cause="a table that is indexed by the timestep, or integer division",
)
def timestep_dtype(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    if inputs.timestep is None or inputs.timestep.is_floating_point():
        raise NotApplicable("the example has no integer timestep")
    real = inputs._replace(timestep=inputs.timestep.float())
    require_same(
        case.call(model, real), case.call(model, inputs), case.traits.tolerance, "float32 against integer timesteps"
    )


@law("the output depends on what is observed", cause="an input that is never read, or that is multiplied by zero")
def values_used(case: Case) -> None:
    base, other = case.inputs(), case.inputs(seed=1)
    names = [name for name in OBSERVED if getattr(base, name, None) is not None]
    if case.kind == "denoiser" and not case.traits.uses_context:
        names.remove("context")
    trials = {f"the values of {name}": _with_part(base, other, name, "values") for name in names}
    calling.require_influence(case, trials, base)


@law("the output depends on φ", cause="φ is never read")
def params_used(case: Case) -> None:
    if not case.traits.uses_params:
        raise NotApplicable("not declared (`uses_params`)")
    base, other = case.inputs(), case.inputs(seed=1)
    changed = base
    for name in OBSERVED:
        if getattr(base, name, None) is not None:
            changed = _with_part(changed, other, name, "params")
    calling.require_influence(case, {"φ": changed}, base)


def _with_part(base: Any, other: Any, name: str, field: str) -> Any:
    part = getattr(base, name)._replace(**{field: getattr(getattr(other, name), field)})
    return base._replace(**{name: part})


@law(
    "the order of the views of a set does not matter",
    cause="views that are joined as channels, or told apart by their number",
)
def set_of_views(case: Case) -> None:
    name = "context" if case.kind == "denoiser" else "observations"
    if not getattr(case.traits, f"{name}_is_a_set" if name == "context" else "observations_are_a_set"):
        raise NotApplicable("not declared")
    model, inputs = case.build(), case.inputs()
    part = getattr(inputs, name)
    if part is None or part.values.shape[1] < 2:
        raise Broken(f"the example has fewer than two views in its {name}", "example gives a single view")
    turned = inputs._replace(**{name: select_views(part, torch.arange(part.values.shape[1]).flip(0))})
    require_same(case.call(model, turned), case.call(model, inputs), case.traits.tolerance, "views in reverse")


@law(
    "the gradient reaches every trained weight: finite, and not zero",
    cause="a layer that is never used, or whose output is detached; freeze it with requires_grad_(False) or remove it",
)
def gradient_to_weights(case: Case) -> None:
    model = case.build()
    weights = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
    weights = {name: weight for name, weight in weights.items() if weight.requires_grad}
    if not weights:
        raise NotApplicable("it has no trained weights")
    if not getattr(case.traits, "stochastic_training", False):
        model.train()
    total = torch.zeros(())
    generator = torch.Generator().manual_seed(0)
    for leaf in named_leaves(model(*case.inputs()), "output").values():
        total = total + (leaf * torch.randn(leaf.shape, generator=generator)).sum()
    if not total.requires_grad:
        raise Broken("the output is detached from all weights")
    found = dict(zip(weights, torch.autograd.grad(total, list(weights.values()), allow_unused=True), strict=True))
    for what, wrong in {
        "no gradient at": [name for name, value in found.items() if value is None],
        "a gradient that is not finite at": [n for n, v in found.items() if v is not None and not v.isfinite().all()],
        "a gradient of zero at": [name for name, value in found.items() if value is not None and not value.any()],
    }.items():
        if wrong:
            raise Broken(f"{what} {', '.join(wrong[:5])}" + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""))


@law(
    "what does not fit is refused in words: UserError or ValueError with the sizes that were given",
    cause="broadcasting made sense of it, or torch failed deep within; check shapes at the door",
)
def shape_errors(case: Case) -> None:
    model, inputs = case.build(), case.inputs(5)
    trials = {}
    for name in OBSERVED:
        part = getattr(inputs, name, None)
        if part is not None:
            first = tree_map(lambda leaf: leaf[0], part)
            trials[f"{name} without the dimension of the batch"] = inputs._replace(**{name: first})
    if inputs.timestep is not None:
        for what, timestep in {
            "timesteps of 3 signals for 5": inputs.timestep[:3],
            "one timestep for 5 signals": inputs.timestep[:1],
            "timesteps of shape (5, 1)": inputs.timestep[:, None],
        }.items():
            trials[what] = inputs._replace(timestep=timestep)
    if getattr(inputs, "context", None) is not None:
        for count in (1, 3):
            fewer = tree_map(lambda leaf, n=count: leaf[:n], inputs.context)
            trials[f"a context of {count} signals for 5"] = inputs._replace(context=fewer)
    require_refusals(trials, lambda given: case.call(model, given))


LAWS = (
    builds, example, output, state.config_round_trip, state.config_untouched, calling.finite_output,
    calling.batch_consistency, calling.determinism, calling.global_rng, calling.inputs_untouched,
    calling.independent_calls, calling.memory_layout, timestep_used, timestep_dtype, values_used, params_used,
    set_of_views, gradient_to_weights, state.dtype, state.bfloat16, state.device, state.state_dict, calling.size_one,
    calling.empty_batch, shape_errors, state.compiles, state.vmaps,
)  # fmt: skip
