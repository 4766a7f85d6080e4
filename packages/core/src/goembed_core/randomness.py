"""Random numbers that belong to the item, not to the process: the same on 1 or 4 processes, and after a resume."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORD = 0xFFFFFFFF


def derive_seed(seed: int, *keys: int | str) -> int:
    """A 63-bit seed that depends on every key; unlike `hash`, equal in every process and Python."""
    text = "\x1f".join([str(seed), *map(str, keys)]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def philox(counter: Sequence[Int[Tensor, "..."]], key: tuple[int, int]) -> list[Int[Tensor, "..."]]:
    """Philox-4x32-10 (Salmon et al. 2011): four words of 32 random bits from four words of counter, elementwise.

    Words are int64 tensors in [0, 2³²).  The products wrap in two's complement, which leaves all 64 bits right.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1 = (second >> 32) & WORD ^ c1 ^ k0, second & WORD
        c2, c3 = (first >> 32) & WORD ^ c3 ^ k1, first & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return [c0, c1, c2, c3]


class ItemRandom:
    """One independent stream of random numbers per item of a batch, keyed by `(seed, stream)` and counted by item.

    Numbers are made on the device, for all items at once; every device makes the same ones, normal numbers to rounding.

    **Arguments:**
    - `seed`: the run's seed.
    - `items`: the global index of each item of the batch; in training, the number of observations seen before it.
    - `stream`: separates consumers, so that a draw added to one of them does not shift the others'.
    """

    def __init__(self, seed: int, items: Sequence[int], stream: str = "", device: torch.device | str = "cpu"):
        self.seed = seed
        self.items = tuple(int(item) for item in items)
        self.device = torch.device(device)
        self._stream = stream
        self._drawn = 0  # blocks of four words, of every item
        self._index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.items)

    def stream(self, name: str) -> ItemRandom:
        """The same items in a stream of this one, which shares no number with it or with other streams of that name."""
        return ItemRandom(self.seed, self.items, f"{self._stream}/{name}" if self._stream else name, self.device)

    @property
    def generators(self) -> list[torch.Generator]:
        """A generator per item on the CPU, for code that takes generators; independent of the other draws."""
        return [torch.Generator().manual_seed(derive_seed(self.seed, i, self._stream)) for i in self.items]

    def randn(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Standard normal numbers `(B, *shape)`."""
        words = self._words(shape, even=True)
        radius = (-2 * ((words[:, 0::2] + 0.5) * 2**-32).log()).sqrt()  # Box and Muller
        angle = words[:, 1::2] * (2 * math.pi * 2**-32)
        return self._shaped(torch.stack([radius * angle.cos(), radius * angle.sin()], 2).flatten(1), shape)

    def rand(self, *shape: int) -> Float[Tensor, "batch ..."]:
        """Uniform numbers in [0, 1), `(B, *shape)`."""
        return self._shaped((self._words(shape) >> 8) * 2**-24, shape)

    def randint(self, low: int, high: int, *shape: int) -> Int[Tensor, "batch ..."]:
        """Uniform integers in [low, high), `(B, *shape)`; at most 2³² different ones."""
        if not 0 < high - low <= 2**32:
            raise ValueError(f"randint from {low} up to {high}: needs between 1 and 2^32 different integers")
        return self._shaped(low + ((self._words(shape) * (high - low) >> 32) & WORD), shape)

    def _words(self, shape: tuple[int, ...], even: bool = False) -> Int[Tensor, "batch words"]:
        """As many words per item as the shape has numbers, or one more to make them even."""
        count = math.prod(shape)
        count += even and count % 2
        blocks = -(-count // 4)
        if self._index is None:
            self._index = torch.tensor(self.items, dtype=torch.int64).to(self.device, non_blocking=True)[:, None]
        block = torch.arange(self._drawn, self._drawn + blocks, device=self.device)[None]
        self._drawn += blocks
        key = derive_seed(self.seed, self._stream)
        counter = (block & WORD, block >> 32, self._index & WORD, self._index >> 32)
        words = torch.broadcast_tensors(*philox(counter, (key & WORD, key >> 32)))
        return torch.stack(words, 2).flatten(1)[:, :count]

    def _shaped(self, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        return values[:, : math.prod(shape)].reshape(len(self), *shape)


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
