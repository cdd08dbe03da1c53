"""The pace of one process towards one provider: how many tokens it puts in a request, and how many requests are under way at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..decide.pace import Pace, after_answer, after_timeout

LOOK_EVERY_S = 0.2


class Pacer:
    """Threads of one process share it. `timeout_s`: bound of one request."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.pace = Pace()
        self.inside = 0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, stop: Callable[[], bool]) -> Iterator[bool]:
        """Wait until fewer requests are under way than the pace allows. The context value is False if `stop()` returned true first."""
        with self._changed:
            while not (allowed := self.inside < self.pace.at_once) and not stop():
                self._changed.wait(LOOK_EVERY_S)
            self.inside += allowed
        try:
            yield allowed
        finally:
            with self._changed:
                self.inside -= allowed
                self._changed.notify_all()

    def answered(self, tokens: int, took_s: float) -> None:
        with self._changed:
            self.pace = after_answer(self.pace, tokens, self.inside, took_s, self.timeout_s)

    def timed_out(self, tokens: int) -> None:
        with self._changed:
            self.pace = after_timeout(self.pace, tokens)
