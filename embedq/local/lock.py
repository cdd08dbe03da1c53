"""The lock that lets only one process run the servers of a home."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from .process import LOOK_EVERY_S

if TYPE_CHECKING:
    from pathlib import Path

LOCK_TIMEOUT_S = 1.0


def take(home: Path) -> int | None:
    """Take the lock; returns a file descriptor, or None if another process has it. The lock lasts until the descriptor is closed or the
    process ends, even if the Servers object was deleted."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    # Retried, because running() also holds the lock for an instant.
    while not locks(lock, exclusively=True):
        if time.monotonic() > deadline:
            os.close(lock)
            return None
        time.sleep(LOOK_EVERY_S)
    return lock


def locks(lock: int, *, exclusively: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
