"""Concurrency of one process: at most as many batches at once as the operator's throttle allows. Normal batches yield briefly to urgent ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..decide.throttle import Throttle

LOOK_EVERY_S = 1.0
# Longest time in seconds that normal batches yield to urgent ones: before they begin, and before they store vectors, which are paid for already.
GIVE_WAY_S, STORE_GIVES_WAY_S = 0.1, 0.03


class Gate:
    """Threads of one process share it. `throttle()` returns the present limits; once `stopping` is set, waiting threads are admitted, so that they end."""

    def __init__(self, throttle: Callable[[], Throttle], stopping: threading.Event) -> None:
        self.throttle, self.stopping = throttle, stopping
        self.inside = 0
        self._hurried: set[int] = set()  # threads, by their identifier
        self._changed = threading.Condition()

    @contextmanager
    def entered(self) -> Iterator[Throttle]:
        """Waits for urgent batches (bounded), then for a free place; the context value is the throttle for this batch."""
        self.give_way(GIVE_WAY_S)
        throttle = self._wait()
        try:
            yield throttle
        finally:
            with self._changed:
                self.inside -= 1
                self._changed.notify_all()

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """While this thread runs the block, the other threads of the process yield to it."""
        me = threading.get_ident()
        with self._changed:
            self._hurried.add(me)
        try:
            yield
        finally:
            with self._changed:
                self._hurried.remove(me)
                self._changed.notify_all()

    def give_way(self, for_s: float) -> None:
        """Wait until no thread runs an urgent batch, `for_s` seconds at most."""
        if self._hurried and threading.get_ident() not in self._hurried:
            with self._changed:
                self._changed.wait_for(lambda: not self._hurried or self.stopping.is_set(), for_s)

    def wait_empty(self, deadline: float) -> bool:
        """Wait until no batch is under way, by `deadline` (monotonic seconds). True: none is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.inside, max(0.0, deadline - time.monotonic()))

    def _wait(self) -> Throttle:
        while True:
            throttle = self.throttle()
            with self._changed:
                if not throttle.concurrency or self.inside < throttle.concurrency or self.stopping.is_set():
                    self.inside += 1
                    return throttle
                # With a time-out, because the operator may raise the limit meanwhile.
                self._changed.wait(LOOK_EVERY_S)
