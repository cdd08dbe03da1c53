"""A thread for urgent tasks in each worker, in addition to its other threads, so that an urgent article does not wait for a free thread.

The write wakes it by NOTIFY, in mode celery too; the task's message then finds it claimed. Free other threads get the first chance to claim.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ..model import Priority
from .engine import Engine
from .runs import NextDue, NextUrgent
from .worker import SHORTEST_NAP_S

HEAD_START_S = 0.03
RESERVED = {Priority.URGENT, Priority.HIGH}


def is_wanted(queues: Sequence[str]) -> bool:
    """Whether a worker with these queues needs the thread: it serves urgent tasks and also less urgent ones."""
    return Priority.URGENT in queues and not RESERVED.issuperset(queues)


class Express:
    """`threads`: number of the worker's other threads. `request()`: what to claim, called before each claim."""

    def __init__(self, engine: Engine, threads: int, request: Callable[[], NextDue | NextUrgent], poll_s: float) -> None:
        self.engine, self.worker = engine, engine.worker
        self.threads, self.request, self.poll_s = threads, request, poll_s

    def start(self) -> threading.Thread:
        return self.worker.lasting("embedq-express").start(self.worker.work(self.once, self._nap_s))

    def once(self) -> int:
        """Claim, embed and settle urgent tasks; returns how many."""
        if not self.engine.gate.inside:
            self.worker.stopping.wait(HEAD_START_S)
        with self.engine.gate.hurry():
            return self.engine.run(self.request()).claimed

    def _nap_s(self, since_s: float) -> float:
        """Seconds until the next poll, or until the earliest urgent task that was not due at the last look (a retry after 50 ms)."""
        due_s = self.engine.store.tasks.next_due_s(since_s, [Priority.URGENT])
        return self.poll_s if due_s is None else min(self.poll_s, max(due_s, SHORTEST_NAP_S))
