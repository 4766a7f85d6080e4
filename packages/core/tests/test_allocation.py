"""Memory that is freed and asked for again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from goembed_core.allocation import TOLD

FAULTS = """
import resource, sys
import torch
from goembed_core.allocation import keep_freed_memory
changed = keep_freed_memory() if sys.argv[1] == "keep" else None
def work():
    for _ in range(20):
        a = torch.ones(2**20)
        b = torch.ones(2**23)
        del a, b
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(changed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what: str, **environment: str) -> tuple[str, int]:
    """What `keep_freed_memory` said, and how many pages twenty rounds of two tensors were given anew."""
    kept = {name: value for name, value in os.environ.items() if name not in TOLD}
    told = [sys.executable, "-c", FAULTS, what]
    said = subprocess.run(told, capture_output=True, text=True, check=True, env=kept | environment).stdout.split()
    return said[0], int(said[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_what_is_freed_is_kept_unless_the_environment_says_otherwise():
    """Of 20 rounds of 9216 pages of 4 KiB; larger pages make them fewer."""
    (_, anew), (said, kept), (told, obeyed) = (
        faults("leave"), faults("keep"), faults("keep", MALLOC_TOP_PAD_="131072")
    )  # fmt: skip
    assert (said, told) == ("True", "False") and kept < 100 and anew > 10 * max(kept, 10) and obeyed > 0.5 * anew
