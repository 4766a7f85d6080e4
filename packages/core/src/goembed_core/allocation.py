"""How the C library keeps memory that has been freed."""

from __future__ import annotations

import ctypes
import os
import platform

# mallopt's names for them, from glibc's malloc.h, and values far above what a step asks for
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
KEPT = {TRIM_THRESHOLD: 2**30, TOP_PAD: 2**26, MMAP_THRESHOLD: 2**30}
TOLD = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed for the next tensors; True if it does.

    Every step on a CPU asks for the same tensors again.  As glibc begins, the larger ones are mapped anew each time and
    the kernel clears them page by page, which was a tenth of a step of inverse graphics, and half of one of sparse-view
    reconstruction.  The process then holds as much as it needed at most.  Where the environment tells glibc what to do,
    or the C library is another, nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in TOLD):
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(option, value) == 1 for option, value in KEPT.items())
