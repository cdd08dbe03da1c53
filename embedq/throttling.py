"""The gate before a batch: no more at once in this process than an operator allows, also while others are already waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .decide.throttle import Throttle

LOOK_EVERY_S = 1.0
GIVE_WAY_S = 0.1


class Gate:
    """Threads of one process share it. `throttle()` reads what holds now; `stopping` lets everybody in who waits, to leave."""

    def __init__(self, throttle: Callable[[], Throttle], stopping: threading.Event) -> None:
        self.throttle, self.stopping = throttle, stopping
        self.inside = 0
        self._hurried = 0
        self._changed = threading.Condition()

    @contextmanager
    def entered(self, *, hurried: bool = False) -> Iterator[Throttle]:
        """Waits until there is room; yields the throttle under which this batch runs. `hurried`: it gives way to nobody."""
        if self._hurried and not hurried:
            with self._changed:
                self._changed.wait_for(lambda: not self._hurried or self.stopping.is_set(), GIVE_WAY_S)
        throttle = self._wait()
        try:
            yield throttle
        finally:
            with self._changed:
                self.inside -= 1
                self._changed.notify()

    def _wait(self) -> Throttle:
        while True:
            throttle = self.throttle()
            with self._changed:
                if not throttle.concurrency or self.inside < throttle.concurrency or self.stopping.is_set():
                    self.inside += 1
                    return throttle
                # Not only until somebody leaves: the operator may open the gate while a batch takes a minute.
                self._changed.wait(LOOK_EVERY_S)

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """While the block runs, no other batch begins in this process, for `GIVE_WAY_S` each at most: the cores are for this one."""
        with self._changed:
            self._hurried += 1
        try:
            yield
        finally:
            with self._changed:
                self._hurried -= 1
                self._changed.notify_all()
