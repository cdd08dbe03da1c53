"""Dispatch: from the table to the broker, up to its bound, the urgent first and tenants in turn. The steward's, and `broker rebuild`'s."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from .broker import Broker
from .decide.switching import dispatches
from .decide.throttle import throttle_of
from .errors import BrokerUnavailable
from .model import Mode, Priority
from .settings import Settings
from .store import Store

log = logging.getLogger(__name__)


# Batches that are marked and published at once: a few, so that workers have begun with the first while the next are marked.
STEP = 4


class Dispatcher:
    """`stop()` ends it early. Every task is marked before its message is sent, and freed when it could not be."""

    def __init__(self, store: Store, broker: Broker, settings: Settings, stop: Callable[[], bool] = lambda: False) -> None:
        self.store, self.broker, self.settings, self.stop = store, broker, settings, stop
        self.size = settings.batch_size

    def dispatch(self) -> int:
        """Publish what is due and has room. Returns how many tasks; 0 also while the mode, a hold or the circuit forbids it."""
        live = self.store.status.live()
        if live is None or not live["is_running"] or live["dispatch_held"] or not dispatches(Mode(live["mode"])):
            return 0
        try:
            self.broker.circuit.check()
        except BrokerUnavailable:
            return 0
        throttle = throttle_of(live["throttle"])
        self.size, bound = throttle.batch_of(self.settings.batch_size), throttle.depth_of(self.settings.queue_max_depth)
        depth = self.store.tasks.dispatched_depth(bound)
        return sum(self._priority(priority, bound - depth[priority]) for priority in Priority)

    def _priority(self, priority: Priority, room: int) -> int:
        sent = 0
        while sent < room and not self.stop():
            full = self.store.tasks.tenants_over_share(priority, self.settings.tenant_depth)
            ids = self.store.tasks.dispatch(priority, min(room - sent, STEP * self.settings.batch_size), full)
            if not ids or not self._publish(priority, ids):
                break
            sent += len(ids)
        return sent

    def _publish(self, priority: Priority, ids: Sequence[int]) -> bool:
        size = self.size
        try:
            self.broker.publish((priority, ids[at : at + size]) for at in range(0, len(ids), size))
        except BrokerUnavailable as away:
            self.store.tasks.free(ids)
            log.warning("%s; %d tasks wait in the table", away, len(ids))
            return False
        return True
