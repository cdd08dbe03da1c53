"""The database worker: threads that ask the table for what is due. NOTIFY shortens their wait, polling is the truth."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

from . import express
from .assemble import WorkerParts
from .decide.priority import order
from .engine import NextDue
from .model import Mode, Priority
from .settings import Settings
from .worker import SHORTEST_NAP_S

# In hybrid mode the dispatcher goes first: a poller takes a free task only when it has been due for so long, or when Celery's workers are
# behind; it looks after `HELP_S` whether they are.
GRACE_S = 2.0
HELP_S = 0.2


class Poller:
    """`run()` until `stop()`. Batches under way are settled; what was claimed and not yet sent is handed back.

    `queues`: the priorities it takes; others are left to other pollers.
    """

    def __init__(self, parts: WorkerParts, settings: Settings, queues: Sequence[Priority] = tuple(Priority)) -> None:
        self.parts, self.settings, self.queues = parts, settings, queues
        self.threads: list[threading.Thread] = []
        self.turns = 0

    def start(self) -> None:
        self.parts.start(self.settings)
        self.parts.steward.start()
        self.threads = [
            threading.Thread(
                target=self.parts.worker.work, args=(self.once, self._nap_s), name=f"embedq-poller-{number}", daemon=True
            )
            for number in range(self.settings.concurrent_workers)
        ]
        for thread in self.threads:
            thread.start()
        if express.is_wanted(self.queues):
            self.threads.append(self._express().start())

    def _express(self) -> express.Express:
        return express.Express(
            self.parts.engine,
            self.settings.concurrent_workers,
            lambda: NextDue([Priority.URGENT], grace_s=self._grace_s),
            self.settings.worker_interval_s,
        )

    def stop(self, timeout_s: float) -> bool:
        """Let what is under way settle for at most `timeout_s`; True when everything did."""
        self.parts.worker.stopping.set()
        self.parts.worker.ring()
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        done = not any(thread.is_alive() for thread in self.threads)
        self.parts.close()
        return done

    def once(self) -> int:
        """Claim, embed and settle one batch; how many tasks it had."""
        self.turns += 1
        mine = [priority for priority in order(self.turns) if priority in self.queues]
        report = self.parts.engine.run(NextDue(mine, grace_s=self._grace_s))
        if not report.claimed and self._live_mode() is Mode.HYBRID:
            report = self.parts.engine.run_overdue(self.settings.fallback_after_s, self.queues)
        return report.claimed

    @property
    def _grace_s(self) -> float:
        return min(GRACE_S, self.settings.fallback_after_s)

    def _nap_s(self, since_s: float) -> float:
        """Until the next poll, or until the first task is due that was not yet when we looked, `since_s` ago (a retry after 50 ms)."""
        poll_s = self.settings.worker_interval_s * random.uniform(0.75, 1.0)
        grace_s = self._grace_s if self._live_mode() is Mode.HYBRID else 0.0
        due_s = self.parts.store.tasks.next_due_s(since_s + grace_s, self.queues)
        if due_s is None:
            return poll_s
        return min(poll_s, max(due_s, HELP_S if due_s < 0 and grace_s else SHORTEST_NAP_S))

    def _live_mode(self) -> Mode | None:
        live = self.parts.store.status.live()
        return Mode(live["mode"]) if live else None
