"""Frees tasks whose messages the broker lost or will not deliver."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from ..broker import Broker, InBroker
from ..decide.modes import dispatches, pollers_take_over
from ..errors import BrokerUnavailable
from ..model import Priority
from ..store import Store
from .hand_over import free_all
from .missing_messages import Missed

LOST_AFTER_S = 5.0
HELD_S = 20.0
# Tasks dispatched more recently stay marked: their messages may not have arrived yet.
ON_ITS_WAY_S = 0.5


class LostMessages:
    """Compares the tasks marked as dispatched with the messages in the broker."""

    def __init__(self, store: Store, broker: Broker) -> None:
        self.store, self.broker = store, broker
        self.missed = Missed(store)
        self._held_since: dict[int, float] = {}
        self._seen_before = False

    def look(self) -> None:
        """One comparison; tasks without a message are freed."""
        live = self.store.status.live()
        mode, explained = live.mode, self.missed.explained(live)
        if not dispatches(mode):
            self._free_all("the mode is " + mode)
            return
        try:
            # At the first look a missing marker proves no wipe, the broker may be new; lost messages are then found one by one.
            wiped, self._seen_before = self.broker.was_wiped() and self._seen_before, True
            queues = self.broker.look(heads=True)
        except BrokerUnavailable:
            if pollers_take_over(mode):
                self._free_all("the broker cannot be reached")
            return
        if wiped:
            self._free_all("the broker has lost what it held")
            return
        again = self._held_too_long([task for queue in queues.values() for task in queue.held])
        for priority in Priority:
            self._free_lost(priority, queues[priority], again, explained)

    def _free_all(self, why: str) -> None:
        freed = free_all(self.store, older_s=ON_ITS_WAY_S)
        if freed:
            self.store.audit.write("broker", f"{freed} tasks went back to the table: {why}", tasks=freed)

    def _held_too_long(self, held: Iterable[int]) -> list[int]:
        """Tasks whose message a worker took HELD_S ago. It may be dead, and the broker redelivers its messages only after the visibility
        time-out. Each task is returned once: a second message is harmless, a thousand are not."""
        now = time.monotonic()
        self._held_since = {task: self._held_since.get(task, now) for task in held}
        found = [task for task, since in self._held_since.items() if now - since > HELD_S]
        self._held_since.update(dict.fromkeys(found, math.inf))
        return found

    def _free_lost(self, priority: Priority, queue: InBroker, again: Sequence[int], explained: str) -> None:
        if queue.waiting and queue.first is None:
            return
        first = queue.first if queue.waiting else None
        # Where the broker does not show what workers hold, wait longer, so that held tasks can be claimed; a second message is harmless.
        after_s = LOST_AFTER_S if queue.sees_held else HELD_S
        freed = self.store.tasks.free_lost(priority, after_s, first=first, held=queue.held, again=again)
        if freed:
            said = f"{freed} {priority} tasks had no message any more{explained and f' ({explained})'} and are dispatched again"
            self.store.audit.write("broker", said, tasks=freed, priority=priority, explained=explained)
