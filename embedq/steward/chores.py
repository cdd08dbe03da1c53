"""The leader's periodic tasks (chores), each with its own interval. The conditions are in the SQL statements that they call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.worker import Worker
from ..settings import Settings
from ..store import Store
from ..store.reconcile import STEWARDS_SHARE

AGAIN_S = 10.0
RECONCILE_AFTER_SWITCH_S = 2.0
DEAD_AFTER_S = 60.0


@dataclass(slots=True)
class Chore:
    """`do()` every `every_s` seconds; `next_at` on the monotonic clock."""

    name: str
    every_s: float
    do: Callable[[], object]
    next_at: float = field(default=0.0)


class Timetable:
    """A chore that fails does not delay the others, and is tried again soon."""

    def __init__(self, chores: Sequence[Chore], worker: Worker) -> None:
        self.chores = list(chores)
        self._attempts = {chore.name: worker.lasting(f"embedq-steward, {chore.name}") for chore in self.chores}

    def start(self, later: dict[str, float]) -> None:
        """Make all chores due now, except those in `later` (name -> seconds)."""
        now = time.monotonic()
        for chore in self.chores:
            chore.next_at = now + later.get(chore.name, 0.0)

    def tick(self) -> None:
        """Do what is due."""
        for chore in self.chores:
            if time.monotonic() >= chore.next_at:
                lasting = self._attempts[chore.name]
                with lasting.attempt():
                    chore.do()
                chore.next_at = time.monotonic() + (min(AGAIN_S, chore.every_s) if lasting.failures else chore.every_s)

    def bring_forward(self, name: str, in_s: float) -> None:
        for chore in self.chores:
            if chore.name == name:
                chore.next_at = min(chore.next_at, time.monotonic() + in_s)


class SwitchWatch:
    """Searches for stale articles once more shortly after the live row was changed, by command or by hand: a writer whose transaction was
    open during the change followed the old mode."""

    def __init__(self, store: Store, reconcile_in: Callable[[float], None]) -> None:
        self.store, self.reconcile_in = store, reconcile_in
        self._changed_at: Any = None

    def look(self) -> None:
        changed_at = self.store.status.live().changed_at
        if changed_at != self._changed_at:
            known, self._changed_at = self._changed_at, changed_at
            if known is not None:
                self.reconcile_in(RECONCILE_AFTER_SWITCH_S)


def rescue(store: Store, worker: Worker, settings: Settings) -> None:
    """Tasks of workers that died or hang are pending again."""
    rows = store.tasks.rescue(settings.worker_timeout_s)
    if not rows:
        return
    store.workers.wake()
    worker.counters["rescued"] += len(rows)
    failed = sum(row["status"] == "failed" for row in rows)
    said = f"{len(rows)} tasks were taken back from workers that died or hung"
    store.audit.write("rescue", said, level="warning", tasks=len(rows), failed=failed)


def forget_dead_workers(store: Store) -> None:
    """Delete workers that have been dead for a while from the register."""
    for row in store.workers.bury(older_s=DEAD_AFTER_S):
        said = f"worker {row['name']} is gone"
        store.audit.write("worker", said, level="warning", worker=row["id"], delivery=row["delivery"])


def reconcile(store: Store) -> None:
    """Stale articles without a task get one, a bounded share at a time."""
    made = store.care.reconcile_if_tasks_are_made(STEWARDS_SHARE)
    if made:
        store.audit.write("reconcile", f"{made} stale articles without a task got one", tasks=made)


def clean_up(store: Store, settings: Settings) -> None:
    """Delete finished rows after their retention, where any process has not done so lately."""
    if store.care.clean_up_due(settings.cleanup_interval_h):
        removed = store.care.clean_up(settings.cleanup_retention_days)
        store.audit.write("cleanup", f"{sum(removed.values())} old rows were removed", removed=removed)
