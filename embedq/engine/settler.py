"""Writes outcomes to the table. Retries while PostgreSQL is away, and later when a writer's transaction holds the rows."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from ..errors import EmbedqError, StoreUnavailable
from ..model import Outcome, TaskStatus
from ..store.settling import Settled
from .runs import Report

if TYPE_CHECKING:
    from ..store import Store
    from .worker import Worker

log = logging.getLogger(__name__)

SETTLE_PATIENCE_S = 60.0
# Largest number of outcomes, with their vectors, that a process keeps while a writer's transaction holds their rows.
MOST_HELD_UP = 1000


class Settler:
    """Threads may share it."""

    def __init__(self, store: Store, worker: Worker, dice: Callable[[], float]) -> None:
        self.store, self.worker, self.dice = store, worker, dice
        self._lock, self._unsettled = threading.Lock(), list[Outcome]()
        # Reported by the heartbeat, because a PostgreSQL without room on its disk still takes heartbeats.
        self._refused = worker.lasting("settle")

    def settle(self, outcomes: Sequence[Outcome], report: Report) -> Mapping[int, str]:
        """Write the outcomes; returns the new states. Late outcomes are dropped; those whose rows a writer holds are settled later."""
        if not outcomes:
            return {}
        settled = self._settle_when_the_store_answers(outcomes)
        report.settled.update(settled.states.values())
        report.late += settled.late
        self._count(settled)
        self._record_failures(outcomes, settled.states)
        return settled.states

    def _record_failures(self, outcomes: Sequence[Outcome], states: Mapping[int, str]) -> None:
        """One audit entry of level `error` for all tasks that failed together, because monitors read the audit log."""
        failed = [each for each in outcomes if states.get(each.task.id) == TaskStatus.FAILED]
        if not failed:
            return
        kinds = Counter(each.error_class or "unknown" for each in failed)
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        with suppress(EmbedqError, psycopg.Error):  # the tasks are settled; only the audit entry is missing
            self.store.audit.write(
                "task",
                f"{len(failed)} tasks failed: {told}",
                level="error",
                tasks=[each.task.id for each in failed][:100],
                articles=[each.task.article_id for each in failed][:100],
                first=failed[0].message,
                worker=self.worker.name,
            )

    def settle_held_up(self) -> None:
        """Settle kept outcomes again, after each heartbeat, until they are settled or too late."""
        with self._lock:
            held_up, self._unsettled = self._unsettled, []
        if held_up:
            try:
                self._count(self.store.tasks.settle(self.worker.id, self.worker.name, held_up, patience_s=0.0))
            except StoreUnavailable:
                self._keep(held_up)
                raise

    def _count(self, settled: Settled) -> None:
        self._keep(settled.locked)
        self.worker.counters.update(settled.states.values())
        self.worker.counters["late"] += settled.late

    def _keep(self, locked: Sequence[Outcome]) -> None:
        """Bounded: a task whose outcome is dropped here is rescued when its lease ends, and embedded again."""
        with self._lock:
            self._unsettled = [*self._unsettled, *locked][-MOST_HELD_UP:]

    def _settle_when_the_store_answers(self, outcomes: Sequence[Outcome]) -> Settled:
        """Settle, retried for a limited time with a renewed lease while PostgreSQL is away, so that a restart does not lose vectors that
        were paid for."""
        give_up, settled = time.monotonic() + SETTLE_PATIENCE_S, Settled()
        while True:
            try:
                done = self.store.tasks.settle(self.worker.id, self.worker.name, outcomes, settled)
                self._refused.succeeded()
                return done
            except StoreUnavailable as away:
                self._refused.failed(away)
                if time.monotonic() > give_up:
                    raise
                log.warning("%d outcomes wait to be settled: %s", len(outcomes), away)
            self._renew_lease()

    def _renew_lease(self) -> None:
        time.sleep(0.2 + 0.3 * self.dice())
        try:
            self.worker.beat()
        except StoreUnavailable as away:
            log.debug("still away: %s", away)
