"""Records which stage the threads of a process are in, and since when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class UnderWay:
    """The current stages of all threads; shared between threads."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[str, float]] = {}

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Mark this thread as being in `stage` while the block runs."""
        thread = threading.get_ident()
        self._since[thread] = stage, time.monotonic()
        try:
            yield
        finally:
            self._since.pop(thread, None)

    def longer_than(self, bound_s: float) -> dict[str, float]:
        """Stages in which a thread has been for longer than `bound_s` seconds, with the longest time in seconds."""
        now, found = time.monotonic(), dict[str, float]()
        for stage, since in [*self._since.values()]:
            if now - since > bound_s:
                found[stage] = max(found.get(stage, 0.0), now - since)
        return found
