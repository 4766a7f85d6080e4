"""What comes before every law: it can be built, and has a good example of its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from goembed_core.testing.case import INPUTS, Case, as_tensor_tree
from goembed_core.testing.compare import differs, global_states, moved_generators, shape_text
from goembed_core.testing.laws import Broken, law
from goembed_core.trees import named_leaves


@law(
    "the factory builds it, and what it declares in `conformance` can be used",
    cause="settings that do not go together, a file that is not there, or an error in __init__",
    is_prerequisite=True,
)
def builds(case: Case) -> None:
    component = case.build()
    case.traits_of(component)
    if case.kind != "dataset":
        missing = [name for name in ("__call__", "example") if not callable(getattr(component, name, None))]
        if missing:
            raise Broken(f"{type(component).__name__} has no method {' and no '.join(missing)}", "see its protocol")


class Drawn(NamedTuple):
    """An example and how many signals it was asked for."""

    batch: int
    example: Any


def require_example(case: Case) -> Iterator[Drawn]:
    """The examples of one signal and of four, once what is common to all kinds has been checked."""
    component, kind = case.build(), INPUTS[case.kind]
    for batch in (1, 4):
        before = global_states()
        given = component.example(batch, torch.Generator().manual_seed(0))
        moved = moved_generators(before)
        if not isinstance(given, tuple) or len(given) != len(kind._fields):
            raise Broken(f"example({batch}) gives a {type(given).__name__}, expected ({', '.join(kind._fields)})")
        inputs = kind(*given)
        for name, tree in inputs._asdict().items():
            if tree is not None and tree != () and not as_tensor_tree(tree):
                raise Broken(f"{name} of example({batch}) is no tensor and no NamedTuple of tensors: {tree!r:.80}")
            if any(leaf.shape[:1] != (batch,) for leaf in named_leaves(tree, name).values()):
                raise Broken(f"{name} of example({batch}) is {shape_text(tree)}, expected ({batch}, ...)")
        if moved:
            raise Broken(f"example({batch}, generator) moved the process-wide generator of {' and of '.join(moved)}")
        yield Drawn(batch, inputs)
    if differs(case.example(component, 4, 0), inputs):
        raise Broken("two generators of one seed give two examples")
    if not differs(case.example(component, 4, 1), inputs):
        raise Broken("generators of other seeds give the same example")
