"""A thread for what is urgent, in each worker beside those that work off the rest: an urgent article never waits for a free one.

It is rung by the write itself (NOTIFY), in mode celery too; the message that comes later finds nothing to do. While others are
free they get a head start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from .engine import Engine, NextDue, NextUrgent
from .model import Priority
from .worker import SHORTEST_NAP_S

HEAD_START_S = 0.03
RESERVED = {Priority.URGENT, Priority.HIGH}


def is_wanted(queues: Sequence[str]) -> bool:
    """Where a worker takes what is urgent, and also what somebody urgent would have to wait for."""
    return Priority.URGENT in queues and not RESERVED.issuperset(queues)


class Express:
    """`threads`: how many others the worker has. `request()`: what to claim, asked each time."""

    def __init__(self, engine: Engine, threads: int, request: Callable[[], NextDue | NextUrgent], poll_s: float) -> None:
        self.engine, self.worker = engine, engine.worker
        self.threads, self.request, self.poll_s = threads, request, poll_s

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.worker.work, args=(self.once, self._nap_s), name="embedq-express", daemon=True)
        thread.start()
        return thread

    def once(self) -> int:
        """Claim, embed and settle what is urgent and still there; how many tasks it was."""
        if not self.engine.gate.inside:
            self.worker.stopping.wait(HEAD_START_S)
        with self.engine.gate.hurry():
            return self.engine.run(self.request()).claimed

    def _nap_s(self, since_s: float) -> float:
        """Until the next poll, or until the first urgent task is due that was not yet when we looked (a retry after 50 ms)."""
        due_s = self.engine.store.tasks.next_due_s(since_s, [Priority.URGENT])
        return self.poll_s if due_s is None else min(self.poll_s, max(due_s, SHORTEST_NAP_S))
