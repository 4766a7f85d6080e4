"""deepinv, imported and asked for an operator; its errors in one line."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import warnings
from types import ModuleType
from typing import Any

import torch
from goembed_core.config import ConfigError
from goembed_core.errors import UserError, did_you_mean

ANY_COMPLAINT = (AssertionError, AttributeError, ImportError, IndexError, RuntimeError, TypeError, ValueError)


@functools.cache
def library() -> ModuleType:
    """`deepinv.physics`, of which `import deepinv` needs torchvision as well."""
    try:
        _import_torchvision()
        return importlib.import_module("deepinv.physics")
    except ImportError as error:
        raise UserError(
            f"deepinv cannot be imported ({error}); it needs torchvision, which the goembed workspace leaves out: "
            f"uv pip install --no-config deepinv torch=={torch.__version__.partition('+')[0]}"
        ) from None


def _import_torchvision() -> None:
    """Import torchvision, also beside a torch that its compiled operators were not made for (a CPU-only build).

    torchvision describes two of these operators as soon as it is imported, whether they were loaded or not.  Declaring
    them lets its Python part, all that deepinv's physics needs, be imported; calling them still fails.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")


_declared = torch.library.Library("torchvision", "FRAGMENT")  # what it declares lives as long as it does


def operators() -> dict[str, type]:
    """Every physics operator of deepinv by name."""
    physics = library()
    return {
        name: value
        for name, value in vars(physics).items()
        if isinstance(value, type) and issubclass(value, physics.Physics)
    }


def accepted(name: str) -> set[str]:
    """The parameters of an operator's constructor."""
    known = operators()
    if name not in known:
        raise ConfigError(f"operator={name}: deepinv.physics has no operator of that name{did_you_mean(name, known)}")
    return set(inspect.signature(known[name]).parameters) - {"kwargs"}


def build(name: str, arguments: dict[str, Any], seed: int) -> Any:
    """The operator `deepinv.physics.NAME(**arguments)`; what it draws comes from `seed`, and torch's own numbers stay.

    **Raises:** ConfigError with the closest name, the parameters that there are, or deepinv's own complaint.
    """
    wanted = accepted(name)
    for key in arguments:
        if key not in wanted:
            raise ConfigError(
                f"parameters.{key}: deepinv's {name} has no such parameter{did_you_mean(key, wanted)}; "
                f"it has {', '.join(sorted(wanted))}"
            )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Complex modules are a new feature", UserWarning)
        torch.manual_seed(seed)
        seeded = {"rng": torch.Generator().manual_seed(seed)} if "rng" in wanted else {}
        try:
            return operators()[name](**seeded, **arguments)
        except ANY_COMPLAINT as error:
            raise ConfigError(f"operator={name}: deepinv says: {' '.join(str(error).split())}") from None
