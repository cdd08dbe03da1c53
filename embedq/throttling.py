"""The gate before a batch: no more at once in this process than an operator allows, also while others are already waiting;
and what is hurried has the cores to itself, for as long as that costs the others next to nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .decide.throttle import Throttle

LOOK_EVERY_S = 1.0
# How long others wait at most for what is hurried: before they begin a batch, and before they store one, which is paid for already.
GIVE_WAY_S, STORE_GIVES_WAY_S = 0.1, 0.03


class Gate:
    """Threads of one process share it. `throttle()` reads what holds now; `stopping` lets everybody in who waits, to leave."""

    def __init__(self, throttle: Callable[[], Throttle], stopping: threading.Event) -> None:
        self.throttle, self.stopping = throttle, stopping
        self.inside = 0
        self._hurried: set[int] = set()  # threads, by their identifier
        self._changed = threading.Condition()

    @contextmanager
    def entered(self) -> Iterator[Throttle]:
        """Gives way, waits until there is room; yields the throttle under which this batch runs."""
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
        """While this thread runs the block, all others of the process give way to it, and it to nobody."""
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
        """Wait until nobody is in a hurry any more, `for_s` seconds at most."""
        if self._hurried and threading.get_ident() not in self._hurried:
            with self._changed:
                self._changed.wait_for(lambda: not self._hurried or self.stopping.is_set(), for_s)

    def _wait(self) -> Throttle:
        while True:
            throttle = self.throttle()
            with self._changed:
                if not throttle.concurrency or self.inside < throttle.concurrency or self.stopping.is_set():
                    self.inside += 1
                    return throttle
                # Not only until somebody leaves: the operator may open the gate while a batch takes a minute.
                self._changed.wait(LOOK_EVERY_S)
