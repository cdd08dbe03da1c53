"""One process at a time runs the servers of a home."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from .process import LOOK_EVERY_S

if TYPE_CHECKING:
    from pathlib import Path

LOCK_TIMEOUT_S = 1.0


def take(home: Path) -> int | None:
    """A file descriptor: the lock lasts until it is closed or we end, also when nothing refers to the Servers any more. None: another has it."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    # Not at the first refusal: running() holds the lock for an instant, too.
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
