"""What a process of embedq does to its own memory, once, at its start."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

M_ARENA_MAX = -8


def share_memory() -> None:
    """One heap for all threads: glibc would keep what a thread has freed for that thread alone, several megabytes for each.

    To be called before the first thread starts. Source: mallopt(3), M_ARENA_MAX. Other C libraries lack it, and need it less.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def keep_what_was_loaded() -> None:
    """Modules and settings live as long as the process: exclude them from garbage collection."""
    gc.collect()
    gc.freeze()
