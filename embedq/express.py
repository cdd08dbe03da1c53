"""A thread for what is urgent, in each worker beside those that work off the rest: an urgent article never waits for a free one.

It is rung by the write itself (NOTIFY), in mode celery too; the message that comes later finds nothing to do. While others are
free they get a head start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from .engine import Engine, NextDue, NextUrgent
from .model import Priority

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
        thread = threading.Thread(
            target=self.worker.work, args=(self.once, lambda _: self.poll_s), name="embedq-express", daemon=True
        )
        thread.start()
        return thread

    def once(self) -> int:
        """Claim, embed and settle what is urgent and still there; how many tasks it was."""
        if self.engine.gate.inside < self.threads:
            self.worker.stopping.wait(HEAD_START_S)
        return self.engine.run(self.request()).claimed
