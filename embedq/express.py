"""A thread for what is urgent, in each worker beside those that work off the rest: an urgent article never waits for a free one.

It is rung by the write itself (NOTIFY), in mode celery too; the message that comes later finds nothing to do. While others are
free they get a head start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import psycopg

from .engine import Engine, NextDue, NextUrgent
from .errors import EmbedqError
from .model import Priority

log = logging.getLogger(__name__)

AWAY_S = 1.0
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
        thread = threading.Thread(target=self._work, name="embedq-express", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while not self.worker.stopping.is_set():
            seen = self.worker.rings
            try:
                if self.once() or self.worker.announce_sleep():
                    continue
                self.worker.sleep(seen, self.poll_s)
            except (EmbedqError, psycopg.Error) as away:
                log.info("the urgent wait for the other threads: %s", away)
                self.worker.stopping.wait(AWAY_S)
            except Exception:
                log.exception("the thread for the urgent met a surprise and goes on")
                self.worker.stopping.wait(AWAY_S)

    def once(self) -> int:
        """Claim, embed and settle what is urgent and still there; how many tasks it was."""
        if self.engine.gate.inside < self.threads:
            self.worker.stopping.wait(HEAD_START_S)
        return self.engine.run(self.request()).claimed
