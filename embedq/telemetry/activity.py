"""What the threads of a process are at, and since when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class UnderWay:
    """Threads enter a stage and leave it. They share it."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, float]] = {}

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """This thread is at `stage` while the block runs."""
        thread = threading.get_ident()
        self._since[thread] = stage, time.monotonic()
        try:
            yield
        finally:
            self._since.pop(thread, None)

    def longer_than(self, bound_s: float) -> dict[str, float]:
        """Of each stage that a thread has been at for longer: how long (seconds) the longest has."""
        now, found = time.monotonic(), dict[str, float]()
        for stage, since in [*self._since.values()]:
            if now - since > bound_s:
                found[stage] = max(found.get(stage, 0.0), now - since)
        return found
