"""Laws of what a component is made of: settings, weights, dtype, device, compilation."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from goembed_core.testing.case import Case, items, move_weights, moved
from goembed_core.testing.compare import cast, require_same
from goembed_core.testing.laws import Broken, NotApplicable, law
from goembed_core.trees import named_leaves, tree_map


def _config(component: Any) -> BaseModel:
    config = getattr(component, "config", None)
    if not isinstance(config, BaseModel):
        raise NotApplicable("it keeps no settings: no attribute `config` that is a pydantic model")
    return config


@law(
    "the settings survive being written: config = parse(JSON(config))",
    cause="a field that JSON cannot hold (a tensor, inf, a function), or a validator that changes its own result",
)
def config_round_trip(case: Case) -> None:
    config = _config(case.build())
    text = config.model_dump_json()
    try:
        restored = type(config).model_validate_json(text)
    except ValueError as error:
        raise Broken(f"{text} is refused: {' '.join(str(error).split())}") from error
    if restored != config:
        raise Broken(f"{text} reads back as {restored!r}, it was {config!r}")


@law(
    "building and calling leave the settings alone",
    cause="a list or dict of the config, or of the module that it defaults to, is changed in place; copy it",
)
def config_untouched(case: Case) -> None:
    first = case.build()
    before = _config(first).model_dump_json()
    if case.kind == "dataset":
        first[0]
    else:
        case.call(first, case.inputs())
    after = _config(first).model_dump_json()
    if after != before:
        raise Broken(f"a call changed them from {before} to {after}")
    second = _config(case.build()).model_dump_json()
    if second != before:
        raise Broken(f"a second one is built with {second}, the first one was with {before}")


@law(
    "the output has the dtype of the inputs: float32 gives float32, float64 gives float64, and they agree",
    cause="a constant or a cast of fixed precision (`.float()`, `.double()`, dtype=..., a numpy array)",
)
def dtype(case: Case) -> None:
    single = case.call(case.build(), case.inputs())
    _require_dtype(single, torch.float32)
    double = case.call(moved(case.build(), torch.float64), cast(case.inputs(), torch.float64))
    _require_dtype(double, torch.float64)
    require_same(single, double, max(1e-3, case.traits.tolerance), "float32 against float64")


def _require_dtype(output: Any, expected: torch.dtype) -> None:
    for name, leaf in named_leaves(output, "output").items():
        if leaf.is_floating_point() and leaf.dtype != expected:
            raise Broken(f"{expected} in, {leaf.dtype} out ({name})")


@law(
    "under bfloat16 autocast the output is finite and about that of float32",
    cause="a sum, a difference of large numbers or a coordinate in bfloat16; compute it in float32",
)
def bfloat16(case: Case) -> None:
    model, inputs = case.build(), case.inputs()
    expected = named_leaves(case.call(model, inputs), "output")
    with torch.autocast("cpu", torch.bfloat16):
        found = named_leaves(case.call(model, inputs), "output")
    for name, leaf in found.items():
        usable = expected[name].isfinite()
        if not leaf[usable].isfinite().all():
            raise Broken(f"{name} is not finite, where it is in float32")
        scale = expected[name][usable].double().square().mean().sqrt()
        error = (leaf[usable].double() - expected[name][usable].double()).square().mean().sqrt()
        if error > case.traits.bfloat16_tolerance * scale:
            raise Broken(
                f"{name} is off by {float(error / scale):.2g} of its root mean square, "
                f"where {case.traits.bfloat16_tolerance:.2g} is allowed"
            )


# What may take a tensor of the CPU beside one of a device: indices, copies, and what only asks for dtype or shape.
_MAY_MIX = {
    Tensor.__getitem__, Tensor.to, Tensor.type_as, Tensor.copy_, Tensor.expand_as, Tensor.view_as, Tensor.reshape_as,
    Tensor.__setitem__,
}  # fmt: skip


class _DeviceWatch(TorchFunctionMode):
    """Raises where a tensor of the CPU meets one of the meta device, also where torch's meta kernels let it pass."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors([*args, *kwargs.values()])
        stray = [leaf for leaf in given if leaf.device.type == "cpu" and leaf.dim() > 0]
        if stray and any(leaf.device.type == "meta" for leaf in given) and function not in _MAY_MIX:
            raise Broken(
                f"`{getattr(function, '__name__', function)}` meets a tensor of shape {tuple(stray[0].shape)} that "
                f"stayed on the CPU while the inputs are on another device"
            )
        return function(*args, **kwargs)


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


@law(
    "the device comes from the inputs (found on torch's meta device, which every machine has)",
    cause="a tensor that is no buffer or parameter (`self.k = torch.ones(3)`), one made without device=, "
    "or a value read back to Python (`.item()`, `if x > 0`, numpy)",
)
def device(case: Case) -> None:
    model, inputs = moved(case.build(), "meta"), tree_map(lambda leaf: leaf.to("meta"), case.inputs())
    expected = named_leaves(case.call(case.build(), case.inputs()), "output")
    with _DeviceWatch():
        output = case.call(model, inputs)
    for name, leaf in named_leaves(output, "output").items():
        if leaf.device.type != "meta":
            raise Broken(f"inputs on the device meta give {name} on {leaf.device}")
        if leaf.shape != expected[name].shape:
            shapes = f"{tuple(leaf.shape)} instead of {tuple(expected[name].shape)}"
            raise Broken(f"{name} has shape {shapes}", "a shape that depends on values")


@law(
    "the state_dict is all there is to know: a new one that loads it gives the same output",
    cause="a trained or random tensor that is no parameter and no persistent buffer, "
    "or something computed from the weights once, when it was built",
)
def state_dict(case: Case) -> None:
    model = case.build(seed=0)
    if not isinstance(model, nn.Module):
        raise NotApplicable("it is no torch.nn.Module")
    move_weights(model, seed=5)
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor) and value.requires_grad:
                raise Broken(f"the tensor {'.'.join(filter(None, [name, attribute]))} is trained, but not registered")
    model.train()
    case.call(model, case.inputs())  # statistics that are kept while it trains are state too
    model.eval()
    state = model.state_dict()
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise Broken(f"{', '.join(others)} of the state_dict is no tensor, and cannot be saved")
    other = case.build(seed=1)
    other.load_state_dict({key: value.clone() for key, value in state.items()})
    inputs = case.inputs()
    require_same(
        case.call(other, inputs), case.call(model, inputs), case.traits.tolerance, "with the same state, another one"
    )


@law("torch.compile(fullgraph=True) gives the same", cause="a graph break: values read back to Python, a side effect")
def compiles(case: Case) -> None:
    if not case.traits.compiles:
        raise NotApplicable("not declared (`compiles`)")
    model, inputs = case.build(), case.inputs()
    expected = case.call(model, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own compiler
        torch._dynamo.reset()
        compiled = torch.compile(lambda *given: model(*given), backend="aot_eager", fullgraph=True)
        found = case.call(compiled, inputs)
        torch._dynamo.reset()
    require_same(found, expected, case.traits.tolerance, "compiled")


@law(
    "torch.func.vmap over the signals gives the same",
    cause="an operation in place, values read back to Python, or a batching by hand that vmap cannot see through",
)
def vmaps(case: Case) -> None:
    if not case.traits.vmaps:
        raise NotApplicable("not declared (`vmaps`)")
    model, inputs = case.build(), case.inputs()
    expected = case.call(model, items(inputs, slice(None)))
    leaves: list[Tensor] = []
    tree_map(lambda leaf: leaves.append(leaf) or leaf, inputs)

    def one(*given: Tensor) -> Any:
        rest = iter(given)
        return tree_map(lambda leaf: leaf[0], model(*tree_map(lambda _: next(rest)[None], inputs)))

    with torch.no_grad():
        found = torch.func.vmap(one)(*leaves)
    require_same(found, expected, case.traits.tolerance, "vmap")
