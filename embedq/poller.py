"""The database worker: threads that poll the table for due tasks. NOTIFY only shortens the wait; correctness depends on polling."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence

from .decide.modes import CLAIMS_NOTHING, claims_here, pollers_stand_back, pollers_take_over
from .decide.priority import order
from .engine import urgent_lane
from .engine.runs import NextDue
from .engine.worker import SHORTEST_NAP_S
from .model import Mode, Priority
from .settings import Settings
from .wiring import WorkerParts

log = logging.getLogger(__name__)

# In hybrid mode the dispatcher has precedence: a poller claims a free task only when it has been due for this long, or when Celery's
# workers have a backlog, which it checks every `HELP_S`.
GRACE_S = 2.0
HELP_S = 0.2


class Poller:
    """Runs from `start()` until `stop()`, which settles batches at the provider and hands back tasks that were claimed and not sent. With
    SEMANTIC_SEARCH_ENABLED=false it does nothing.

    `queues`: the priorities it claims.
    """

    def __init__(self, parts: WorkerParts, settings: Settings, queues: Sequence[Priority] = tuple(Priority)) -> None:
        self.parts, self.settings, self.queues = parts, settings, queues
        self.threads: list[threading.Thread] = []
        self.turns = 0

    def start(self) -> bool:
        """Start the threads. False: the settings forbid claims, and nothing was started."""
        if not claims_here(self.settings.switches):
            log.warning("%s", CLAIMS_NOTHING)
            return False
        self.parts.start(self.settings)
        self.parts.steward.start()
        turn = self.parts.worker.work(self.once, self._nap_s)
        self.threads = [
            self.parts.worker.lasting(f"embedq-poller-{number}").start(turn)
            for number in range(self.settings.concurrent_workers)
        ]
        if urgent_lane.is_wanted(self.queues):
            self.threads.append(self._express().start())
        return True

    def _express(self) -> urgent_lane.Express:
        return urgent_lane.Express(
            self.parts.engine,
            self.settings.concurrent_workers,
            lambda: NextDue([Priority.URGENT], grace_s=self._grace_s),
            self.settings.worker_interval_s,
        )

    def stop(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for batches to settle; True when all did."""
        self.parts.worker.announce_end()
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        done = not any(thread.is_alive() for thread in self.threads)
        self.parts.close()
        return done

    def once(self) -> int:
        """Claim, embed and settle one batch; returns its number of tasks."""
        self.turns += 1
        mine = [priority for priority in order(self.turns) if priority in self.queues]
        report = self.parts.engine.run(NextDue(mine, grace_s=self._grace_s))
        if not report.claimed and pollers_take_over(self._live_mode()):
            report = self.parts.engine.run_overdue(self.settings.fallback_after_s, self.queues)
        return report.claimed

    @property
    def _grace_s(self) -> float:
        return min(GRACE_S, self.settings.fallback_after_s)

    def _nap_s(self, since_s: float) -> float:
        """Seconds until the next poll, or until the earliest task that was not due at the last look, `since_s` ago (a retry after 50 ms)."""
        poll_s = self.settings.worker_interval_s * random.uniform(0.75, 1.0)
        grace_s = self._grace_s if pollers_stand_back(self._live_mode()) else 0.0
        due_s = self.parts.store.tasks.next_due_s(since_s + grace_s, self.queues)
        if due_s is None:
            return poll_s
        return min(poll_s, max(due_s, HELP_S if due_s < 0 and grace_s else SHORTEST_NAP_S))

    def _live_mode(self) -> Mode:
        return self.parts.store.status.live().mode
