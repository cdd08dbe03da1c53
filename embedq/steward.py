"""The housekeeping loop: dispatch, rescue, reconcile, clean up, sample. It runs in every worker process; one leads.

The leader holds a session advisory lock in PostgreSQL: when its process dies, the lock is free within a moment, and
when it is only stopped, the others end its session after a while.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from .broker import Broker, InBroker
from .capping import mind_the_cap
from .dispatch import Dispatcher
from .errors import BrokerUnavailable, EmbedqError
from .maintenance import keep_calendar
from .model import Mode, Priority
from .settings import Settings
from .store import Store
from .store.queries import QUERIES
from .throttling import GIVE_WAY_S
from .worker import LEASE_S, Worker

log = logging.getLogger(__name__)

TICK_S = 0.5
LOST_AFTER_S = 5.0
HELD_S = 20.0
SILENT_LEADER_S = 15.0
RECONCILE_AFTER_SWITCH_S = 2.0


@dataclass(slots=True)
class Chore:
    name: str
    every_s: float
    do: Callable[[], object]
    next_at: float = field(default=0.0)


class Steward:
    """`run()` until the worker stops. All decisions are in the statements it calls; this is their timetable.

    `give_way(for_s)` lets what is hurried in this process go first.
    """

    def __init__(
        self, store: Store, broker: Broker, worker: Worker, settings: Settings, give_way: Callable[[float], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.store, self.broker, self.worker, self.settings = store, broker, worker, settings
        self.give_way = give_way
        self.dispatcher = Dispatcher(store, broker, settings, stop=worker.stopping.is_set, calling=True)
        self.leading = False
        self._session: Any = None
        self._changed_at: Any = None
        self._held_since: dict[int, float] = {}
        self._since = time.monotonic()
        self._said_as = 0
        self.chores = [
            Chore("notice a switch", TICK_S, self.notice_switch),
            Chore("dispatch", TICK_S, self.dispatch),
            Chore("rescue", 1.0, self.rescue),
            Chore("look after the broker", 2.0, self.look_after_broker),
            Chore("maintenance", 1.0, lambda: keep_calendar(self.store)),
            Chore("mind the daily cap", 5.0, lambda: mind_the_cap(self.store, self.settings)),
            Chore("bury dead workers", 10.0, self.bury),
            Chore("sample", 10.0, self.sample),
            Chore("reconcile", 300.0, self.reconcile),
            Chore("clean up", 600.0, self.clean_up),
        ]

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.run, name="embedq-steward", daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        done = 0
        while not self.worker.stopping.is_set():
            seen = self.worker.rings
            try:
                if self._lead():
                    if seen != done:  # somebody rang: there is something to publish, and it may be urgent and already in hand
                        self.give_way(GIVE_WAY_S)
                        self._bring_forward("dispatch", 0.0)
                    done = seen
                    self.tick()
                    if self.worker.announce_sleep():
                        self.dispatch()
            except (EmbedqError, psycopg.Error) as away:
                log.warning("the steward waits: %s", away)
                self._step_down()
                self.worker.stopping.wait(1.0)
            except Exception:
                # A leader that died of a surprise would keep the lock, and nobody would keep house.
                log.exception("the steward met a surprise and begins again")
                self._step_down()
                self.worker.stopping.wait(1.0)
            self.worker.sleep(seen, TICK_S if self.leading else 2.0)
        self._step_down()

    def _lead(self) -> bool:
        """True while this process leads. Raises when the session that holds the lock is gone."""
        if self.leading:
            self._session.execute("SELECT 1")
            if self._said_as != self.worker.id:  # declared dead meanwhile, and registered anew
                self._say_that_we_lead(True)
            return True
        if self._session is None:
            self._session = self.store.database.connect(name="embedq steward")
        self.leading = self._session.execute(QUERIES.lead).fetchone()["leading"]
        if self.leading:
            self._began()
        else:
            self._session.execute(QUERIES.end_silent_leader, {"grace_s": SILENT_LEADER_S})
        return self.leading

    def _began(self) -> None:
        # Workers that could not write their heartbeat while PostgreSQL was away get the time to do so before anybody is declared dead.
        start = time.monotonic()
        for chore in self.chores:
            chore.next_at = start + (
                LEASE_S if chore.name in ("rescue", "bury dead workers") and self._store_was_away() else 0.0
            )
        self._say_that_we_lead(True)
        log.info("%s is the steward now", self.worker.name)

    def _store_was_away(self) -> bool:
        row = self.store.database.one(
            "SELECT clock_timestamp() - pg_postmaster_start_time() < make_interval(secs => 30) AS fresh"
        )
        return bool(row and row["fresh"])

    def _step_down(self) -> None:
        led, session = self.leading, self._session
        self._session, self.leading = None, False
        if led:
            self._say_that_we_lead(False)
        if session is not None:
            session.close()

    def _say_that_we_lead(self, leading: bool) -> None:
        """The others end the session of a leader that is silent; a living worker that led once must not pass for the leader."""
        self._said_as = self.worker.id
        try:
            self.store.database.execute(QUERIES.stewardship, {"worker": self.worker.id, "leading": leading})
        except (EmbedqError, psycopg.Error) as away:
            log.info("the register of workers could not be told that stewardship changed: %s", away)

    def tick(self) -> None:
        for chore in self.chores:
            if time.monotonic() >= chore.next_at:
                chore.do()
                chore.next_at = time.monotonic() + chore.every_s

    def notice_switch(self) -> None:
        """Soon after somebody changed what runs, by command or by hand, stale articles are looked for once more: a writer whose
        transaction was open across the change has followed the old rule."""
        live = self.store.status.live()
        changed_at = live["changed_at"] if live else None
        if changed_at != self._changed_at:
            known, self._changed_at = self._changed_at, changed_at
            if known is not None:
                self._bring_forward("reconcile", RECONCILE_AFTER_SWITCH_S)

    def _bring_forward(self, name: str, in_s: float) -> None:
        for chore in self.chores:
            if chore.name == name:
                chore.next_at = min(chore.next_at, time.monotonic() + in_s)

    # Dispatch ------------------------------------------------------------------------------------------------------------------

    def dispatch(self) -> int:
        """Publish what is due. Returns how many tasks."""
        sent = self.dispatcher.dispatch()
        self.worker.counters["dispatched"] += sent
        return sent

    # Rescue --------------------------------------------------------------------------------------------------------------------

    def rescue(self) -> None:
        rows = self.store.tasks.rescue(self.settings.worker_timeout_s)
        if rows:
            self.store.tasks.wake()
            self.worker.counters["rescued"] += len(rows)
            failed = sum(row["status"] == "failed" for row in rows)
            self.store.audit.write(
                "rescue",
                f"{len(rows)} tasks were taken back from workers that died or hung",
                level="warning",
                tasks=len(rows),
                failed=failed,
            )

    def bury(self) -> None:
        for row in self.store.workers.bury(older_s=60.0):
            self.store.audit.write(
                "worker", f"worker {row['name']} is gone", level="warning", worker=row["id"], delivery=row["delivery"]
            )

    # The broker ----------------------------------------------------------------------------------------------------------------

    def look_after_broker(self) -> None:
        """What the broker lost, or will not deliver, goes back to the table."""
        live = self.store.status.live()
        mode = Mode(live["mode"]) if live else Mode.CELERY
        if mode in (Mode.DATABASE, Mode.OFF):
            self.free_all("the mode is " + mode)
            return
        try:
            wiped, queues = self.broker.was_wiped(), self.broker.look(heads=True)
        except BrokerUnavailable:
            if mode is Mode.HYBRID:
                self.free_all("the broker cannot be reached")
            return
        if wiped:
            self.free_all("the broker has lost what it held")
            return
        again = self._held_too_long([task for queue in queues.values() for task in queue.held])
        for priority in Priority:
            self._free_lost(priority, queues[priority], again)

    def free_all(self, why: str) -> int:
        freed = 0
        while (step := self.store.tasks.free_dispatched(older_s=0.5)) > 0:
            freed += step
        if freed:
            self.store.tasks.wake()
            self.store.audit.write("broker", f"{freed} tasks went back to the table: {why}", tasks=freed)
        return freed

    def _held_too_long(self, held: Iterable[int]) -> list[int]:
        """Tasks whose message a worker took HELD_S ago. It may be dead, and the broker gives its messages to another only after the
        visibility time-out. Each task once: a second message does no harm, a thousand would."""
        now = time.monotonic()
        self._held_since = {task: self._held_since.get(task, now) for task in held}
        found = [task for task, since in self._held_since.items() if now - since > HELD_S]
        self._held_since.update(dict.fromkeys(found, math.inf))
        return found

    def _free_lost(self, priority: Priority, queue: InBroker, again: Sequence[int]) -> None:
        if queue.waiting and queue.first is None:
            return
        first = queue.first if queue.waiting else None
        # Where it cannot be seen what workers hold, it gets the time to be claimed; a second message would do no harm.
        after_s = LOST_AFTER_S if queue.sees_held else HELD_S
        freed = self.store.tasks.free_lost(priority, after_s, first=first, held=queue.held, again=again)
        if freed:
            self.store.audit.write(
                "broker",
                f"{freed} {priority} tasks had no message any more and are dispatched again",
                tasks=freed,
                priority=priority,
            )

    # The rest ------------------------------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        made = self.store.care.reconcile_if_tasks_are_made()
        if made:
            self.store.audit.write("reconcile", f"{made} stale articles without a task got one", tasks=made)

    def clean_up(self) -> None:
        if self.store.care.clean_up_due(self.settings.cleanup_interval_h):
            removed = self.store.care.clean_up(self.settings.cleanup_retention_days)
            self.store.audit.write("cleanup", f"{sum(removed.values())} old rows were removed", removed=removed)

    def sample(self) -> None:
        self.store.care.sample()
