"""Publishes messages for due tasks, up to the depth limit, urgent first, tenants in turn. Used by the steward and `broker rebuild`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from ..broker import Broker, InBroker
from ..errors import BrokerUnavailable
from ..model import Priority
from ..settings import Settings
from ..store import Depth, Store
from .wakeups import calls_missing

log = logging.getLogger(__name__)


# Batches that are marked and published in one step; few, so that workers begin with the first while the next are marked.
STEP = 4
# While more than a step waits, each message is a *call*: it names one task, and the worker fills its batch from the table.


class Dispatcher:
    """`stop()` ends it early. Every task is marked before its message is sent, and freed when it could not be.

    `calling`: for a backlog, send only as many messages as keep the workers busy; otherwise as many as the limit allows.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        settings: Settings,
        stop: Callable[[], bool] = lambda: False,
        *,
        calling: bool = False,
    ) -> None:
        self.store, self.broker, self.settings, self.stop, self.calling = store, broker, settings, stop, calling
        self.size = settings.batch_size
        self._called: dict[Priority, int] = {}
        # Why the last attempt to publish failed; empty: it did not.
        self.failed = ""

    def dispatch(self) -> int:
        """Publish due tasks, up to the limit. Returns their number; 0 also if the mode, a hold or the broker's circuit breaker forbids it."""
        self.failed = ""
        live = self.store.status.live()
        if not live.dispatches:
            return 0
        self.size, bound = (
            live.throttle.batch_of(self.settings.batch_size),
            live.throttle.depth_of(self.settings.queue_max_depth),
        )
        try:
            self.broker.circuit.check()
            depths = self.store.tasks.depths(bound, self.step + 1)
            queues = cache(self.broker.look)  # at most one look for all priorities, and none without a backlog
            return sum(self._priority(priority, depths[priority], bound, queues) for priority in Priority)
        except BrokerUnavailable as away:
            self.failed = self.broker.circuit.why or str(away)
            return 0

    @property
    def step(self) -> int:
        return STEP * self.settings.batch_size

    def _priority(self, priority: Priority, depth: Depth, bound: int, queues: Callable[[], Mapping[str, InBroker]]) -> int:
        room = bound - depth.dispatched
        # Urgent tasks are always named in full, never called for.
        if self.calling and priority is not Priority.URGENT and depth.free > self.step:
            waiting = queues()[priority].waiting
            ids = self._next(priority, min(room, calls_missing(self._called.get(priority, 0), waiting)), depth.dispatched)
            sent = len(ids) if self._publish(priority, ids, 1) else 0
            self._called[priority] = waiting + sent
            return sent
        self._called.pop(priority, None)
        sent = 0
        while depth.free and sent < room and not self.stop():
            ids = self._next(priority, min(room - sent, self.step), depth.dispatched + sent)
            if not ids or not self._publish(priority, ids, self.size):
                break
            sent += len(ids)
        return sent

    def _next(self, priority: Priority, limit: int, dispatched: int) -> list[int]:
        if limit <= 0 or self.stop():
            return []
        share, tasks = self.settings.tenant_depth, self.store.tasks
        return tasks.dispatch(priority, limit, tasks.tenants_over_share(priority, share) if dispatched >= share else ())

    def _publish(self, priority: Priority, ids: Sequence[int], size: int) -> bool:
        if not ids:
            return False
        try:
            batches = ((priority, ids[at : at + size]) for at in range(0, len(ids), size))
            self.broker.publish(batches, self.store.watch.identity)
        except BrokerUnavailable as away:
            self.failed = self.broker.circuit.why or str(away)
            self.store.tasks.free(ids)
            log.warning("%s; %d tasks wait in the table", away, len(ids))
            return False
        return True
