"""Random numbers that belong to the item, not to the process: the same on 1 or 4 processes, and after a resume."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def derive_seed(seed: int, *keys: int | str) -> int:
    """A 63-bit seed that depends on every key; unlike `hash`, equal in every process and Python."""
    text = "\x1f".join([str(seed), *map(str, keys)]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


class ItemRandom:
    """One independent stream of random numbers per item of a batch, keyed by `(seed, item, stream)`.

    Numbers are drawn on the CPU and moved, so that every device sees the same ones.

    **Arguments:**
    - `seed`: the run's seed.
    - `items`: the global index of each item of the batch; in training, the number of observations seen before it.
    - `stream`: separates consumers, so that a draw added to one of them does not shift the others'.
    """

    def __init__(self, seed: int, items: Sequence[int], stream: str = "", device: torch.device | str = "cpu"):
        self.seed = seed
        self.items = tuple(int(item) for item in items)
        self.device = torch.device(device)
        self.generators = [torch.Generator().manual_seed(derive_seed(seed, item, stream)) for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def stream(self, name: str) -> ItemRandom:
        """The same items under another stream name."""
        return ItemRandom(self.seed, self.items, name, self.device)

    def randn(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Standard normal numbers `(B, *shape)`."""
        return self._stack([torch.randn(shape, generator=g) for g in self.generators], shape)

    def rand(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Uniform numbers in [0, 1), `(B, *shape)`."""
        return self._stack([torch.rand(shape, generator=g) for g in self.generators], shape)

    def randint(self, low: int, high: int, *shape: int) -> Int[Tensor, "batch ..."]:
        """Uniform integers in [low, high), `(B, *shape)`."""
        return self._stack([torch.randint(low, high, shape, generator=g) for g in self.generators], shape, torch.int64)

    def _stack(self, rows: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        if not rows:
            return torch.empty((0, *shape), dtype=dtype, device=self.device)
        return torch.stack(rows).to(self.device, non_blocking=True)


def global_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's global generators, for networks that draw from them in training (dropout)."""
    state = {"rng/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["rng/cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_global_state(state: dict[str, Tensor], device: torch.device) -> None:
    """The reverse of `global_state`; a generator that was not saved is left alone."""
    if "rng/cpu" in state:
        torch.set_rng_state(state["rng/cpu"])
    if "rng/cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["rng/cuda"], device)
