"""Memory settings that each process of embedq makes once, at its start."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

M_ARENA_MAX = -8


def share_memory() -> None:
    """Use one malloc arena for all threads: with glibc's arena per thread, memory that a thread frees stays reserved for it, several megabytes each.

    Call it before the first thread starts. Source: mallopt(3), M_ARENA_MAX. No effect with other C libraries.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def keep_what_was_loaded() -> None:
    """Modules and settings live as long as the process: exclude them from garbage collection."""
    gc.collect()
    gc.freeze()
