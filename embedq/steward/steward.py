"""The loop of the steward, in a thread of every worker process; one of them leads (`leadership`) and does the chores. Each chore has a file here."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..addresses import hide
from ..broker import Broker
from ..engine.concurrency import GIVE_WAY_S
from ..engine.worker import LEASE_S, UNPUBLISHED, WORDS, Worker
from ..settings import Settings
from ..store import Store
from .clean_up import clean_up
from .dead_workers import forget_dead_workers
from .dispatcher import Dispatcher
from .frozen_sessions import LOOK_EVERY_S, FrozenSessions
from .leadership import Leadership
from .lost_messages import LostMessages
from .maintenance_window import keep_calendar
from .neighbours import Neighbours
from .reconcile import reconcile
from .rescue import rescue
from .sample import RECALL_EVERY_S, sample, sample_recall
from .sources import tend
from .spending_cap import apply_daily_cap
from .switch_watch import SwitchWatch
from .timetable import Chore, Timetable

TICK_S = 0.5
FOLLOW_EVERY_S = 1.0
FOLLOWER_TICK_S = 2.0


class Steward:
    """`run()` lasts until the worker stops. `give_way(for_s)`: wait for urgent batches of this process, `for_s` seconds at most."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        worker: Worker,
        settings: Settings,
        give_way: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.store, self.worker, self.give_way = store, worker, give_way
        self.dispatcher = Dispatcher(store, broker, settings, stop=worker.stopping.is_set, calling=True)
        self.leadership = Leadership(store, worker)
        self.lost_messages = LostMessages(store, broker)
        self.frozen = FrozenSessions(store)
        self._seen = 0
        self._lasting = worker.lasting("embedq-steward")
        watch = SwitchWatch(store, lambda in_s: self.timetable.bring_forward("reconcile", in_s))
        self.timetable = Timetable(
            [
                Chore("notice a switch", TICK_S, watch.look),
                Chore("dispatch", TICK_S, self.dispatch),
                Chore("rescue", 1.0, lambda: rescue(store, worker, settings)),
                Chore("lost messages", 2.0, self.lost_messages.look),
                Chore("neighbours", 10.0, Neighbours(store, broker).look),
                Chore("maintenance", 1.0, lambda: keep_calendar(store)),
                Chore("daily cap", 5.0, lambda: apply_daily_cap(store, settings)),
                Chore("dead workers", 10.0, lambda: forget_dead_workers(store)),
                Chore("sample", 10.0, lambda: sample(store)),
                Chore("reconcile", 300.0, lambda: reconcile(store)),
                Chore("clean up", 600.0, lambda: clean_up(store, settings)),
            ],
            worker,
        )

    @property
    def leading(self) -> bool:
        return self.leadership.leads

    def start(self) -> threading.Thread:
        self.worker.lasting("embedq-steward, frozen sessions").start(self._guard)
        self.worker.lasting("embedq-steward, recall").start(self._sample_recall)
        self.worker.lasting("embedq-steward, follow sources").start(self._follow_sources)
        thread = threading.Thread(target=self.run, name="embedq-steward", daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        self._lasting.keep_on(self.once)
        self.leadership.give_up()

    def once(self) -> None:
        """Lead if possible, do the chores that are due, and sleep. Raises any error; another process may lead then."""
        seen = self.worker.rings
        try:
            led = self.leadership.leads
            if self.leadership.take():
                if not led:
                    self._begin()
                self._do_chores(seen)
        except Exception:
            # Release the lock, so that another process leads while this one fails.
            self.leadership.give_up()
            raise
        self.worker.sleep(seen, TICK_S if self.leading else FOLLOWER_TICK_S)

    def _begin(self) -> None:
        # After an outage of PostgreSQL, give workers time for a heartbeat before any is declared dead.
        self.timetable.start(dict.fromkeys(("rescue", "dead workers"), LEASE_S) if self.store.database.is_fresh() else {})

    def _do_chores(self, seen: int) -> None:
        if seen != self._seen:  # woken by a write: dispatch soon, but after an urgent task that this process may be claiming
            self.give_way(GIVE_WAY_S)
            self.timetable.bring_forward("dispatch", 0.0)
        self._seen = seen
        self.timetable.tick()
        if self.worker.announce_sleep():
            self.dispatch()

    def dispatch(self) -> int:
        """Publish what is due. Returns how many tasks."""
        sent = self.dispatcher.dispatch()
        self.worker.counters["dispatched"] += sent
        self.worker.said[UNPUBLISHED] = hide(self.dispatcher.failed, names=True)[:WORDS]
        return sent

    def _guard(self) -> None:
        """Ends frozen sessions; in a separate thread, because the other chores may be waiting for their locks."""
        if not self.worker.stopping.wait(LOOK_EVERY_S) and self.leading:
            self.frozen.end_those_still_frozen()

    def _follow_sources(self) -> None:
        """In a thread of its own, because reading a table's rows may take seconds, in which the steward would dispatch nothing."""
        if not self.worker.stopping.wait(FOLLOW_EVERY_S) and self.leading:
            tend(self.store, lambda: self.worker.stopping.is_set() or not self.leading)

    def _sample_recall(self) -> None:
        """In a thread of its own, because it is slow."""
        if not self.worker.stopping.wait(RECALL_EVERY_S) and self.leading:
            sample_recall(self.store)
