"""Reads the tensors of an official StyleGAN2 pickle without executing anything that is in it.

Those files hold Python source that the official loader runs.  Here every name must be in an exact allow-list, behind
which stand inert records and a tensor reader with bounds; the source is never looked at.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from goembed_core.errors import UserError
from torch import Tensor
from torch.storage import TypedStorage

MAX_OPCODES = 4_000_000
MAX_MODULES = 1000
REFUSED_OPCODES = {"PERSID", "BINPERSID", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
MEMO_OPCODES = {"PUT", "BINPUT", "LONG_BINPUT"}


class Refused(UserError):
    """The pickle names or does something that no StyleGAN2 checkpoint needs."""


@dataclass(frozen=True)
class ModuleRecord:
    """A pickled network module: its class's name and its attributes, unused but for tensors and settings."""

    class_name: str
    state: dict[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers of the module and its children, by their state_dict names."""
        found: dict[str, Tensor] = {}
        waiting: list[tuple[str, ModuleRecord]] = [("", self)]
        for _ in range(MAX_MODULES):
            if not waiting:
                return found
            prefix, module = waiting.pop()
            hidden = module.state.get("_non_persistent_buffers_set", ())
            buffers = {name: value for name, value in module.state["_buffers"].items() if name not in hidden}
            for name, value in {**module.state["_parameters"], **buffers}.items():
                if isinstance(value, Tensor):
                    found[f"{prefix}{name}"] = value
            children = module.state["_modules"].items()
            waiting += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, ModuleRecord)]
        raise Refused(f"it has more than {MAX_MODULES} modules")


def read_official_pickle(path: Path) -> Any:
    """The content of the pickle: plain containers, tensors and `ModuleRecord`s.

    **Raises:** Refused if the file asks for anything else to be made or called.
    """
    data = path.read_bytes()
    try:
        _check_opcodes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch on the age of these files' own format
            return _Unpickler(io.BytesIO(data)).load()
    except UserError as error:
        raise Refused(f"{path} was not converted, and nothing in it was executed: {error}") from None
    except Exception as error:  # what a damaged pickle raises can be anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a whole StyleGAN2 pickle: {type(error).__name__}: {reason}") from None


def _check_opcodes(data: bytes) -> None:
    """Refuse what the allow-list of names does not see: other ways to make objects, and a memo that eats the memory."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in REFUSED_OPCODES:
            raise Refused(f"it uses the pickle instruction {opcode.name}")
        if count > MAX_OPCODES or (opcode.name in MEMO_OPCODES and argument > count):
            raise Refused("it is built to exhaust the memory")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.allowed = _allow_list()

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("dnnlib.tflib"):
            raise Refused("it is a TensorFlow network; convert it with the official legacy.py first")
        if (module, name) not in self.allowed:
            raise Refused(f"it wants to use {module}.{name}, which no StyleGAN2 checkpoint needs")
        return self.allowed[module, name]


def _allow_list() -> dict[tuple[str, str], Callable]:
    """Stand-ins made anew for each file, because a pickle may write attributes on classes that it names."""

    class Settings(dict):
        def __setstate__(self, state: object) -> None:
            self.update(state if isinstance(state, dict) else {})

    class Inert:
        """Numbers that numpy made, dtypes and devices: none of them is needed."""

        def __init__(self, *args: object):
            pass

        def __setstate__(self, state: object) -> None:
            pass

    def read_module(meta: dict[str, Any]) -> ModuleRecord:
        return ModuleRecord(str(meta["class_name"]), dict(meta["state"]))

    def read_storage(data: bytes) -> TypedStorage:
        storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(storage, TypedStorage):
            raise Refused("it has something else where a tensor's numbers should be")
        return storage

    def read_parameter(data: Tensor, requires_grad: bool, hooks: object) -> Tensor:
        return data

    return {
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "set"): set,
        ("dnnlib.util", "EasyDict"): Settings,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): read_module,
        ("torch._utils", "_rebuild_tensor_v2"): _read_tensor,
        ("torch._utils", "_rebuild_parameter"): read_parameter,
        ("torch.storage", "_load_from_bytes"): read_storage,
        ("numpy", "dtype"): Inert,
        ("numpy.core.multiarray", "scalar"): Inert,
        ("numpy._core.multiarray", "scalar"): Inert,
        ("torch", "device"): Inert,
        ("torch", "float32"): Inert,
    }


def _read_tensor(
    storage: TypedStorage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: object
) -> Tensor:
    flat = torch.empty(0, dtype=storage.dtype)
    available = storage.untyped().nbytes() // flat.element_size()
    numbers = 1
    for length in size:
        numbers *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    negative = min((offset, *size, *stride)) < 0
    if negative or (numbers and (last >= available or numbers > available)):
        raise Refused(f"it has a tensor of shape {tuple(size)} over {available} numbers")
    return flat.set_(storage.untyped(), offset, tuple(size), tuple(stride)).clone()
