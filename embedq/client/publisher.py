"""Publishing what a writer's process has just saved: by a thread of its own, so that no save waits for the broker (G7).

The trigger marks such tasks as being with the broker; the thread sends their messages a moment later, those of many saves
together. What cannot be sent is freed again. When the process dies in between, the steward notices that the messages are missing
(docs/why/dispatched.rst) and dispatches the tasks again.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..broker import Broker
from ..errors import BrokerUnavailable
from ..model import Priority
from ..settings import Settings
from ..store import Store
from ..threads import Lasting

log = logging.getLogger(__name__)

ROOM_HOLDS_S = 1.0
# More than this at once is left to the steward, which publishes in large batches.
PUBLISH_AT_MOST = 500
CLOSING_PATIENCE_S = 5.0
# Debounce: tasks that are not urgent wait 5 ms after a lone save, 50 ms after the last message in a burst, so that one look and one
# message serve many saves.
LINGER_S, BURST_LINGER_S = 0.005, 0.05
# Seconds after the last save until the thread and its connection end: a client made for one request leaves none behind.
IDLE_S = 10.0


@dataclass(slots=True)
class _Waiting:
    """What is to be published, by priority, and whether to look for room."""

    tasks: dict[Priority, list[int]] = field(default_factory=dict)
    depth: bool = False
    urgent: bool = False

    def __bool__(self) -> bool:
        return bool(self.tasks or self.depth)


class Publisher:
    """One per process, shared by its threads. `store` is its own, and closed with it; `broker` is asked for when there is something to publish."""

    def __init__(self, store: Store, broker: Callable[[], Broker], settings: Settings) -> None:
        self.store, self.broker = store, broker
        self.settings = settings
        self._waiting = _Waiting()
        self._bell = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._room: _Room | None = None
        self._sent_at = 0.0

    @property
    def is_prepared(self) -> bool:
        return self._room is not None

    def prepare(self) -> None:
        """Look for room, which asks PostgreSQL: for callers that must not wait in `may_publish`."""
        self.broker()
        self._look_for_room()

    def may_publish(self, priority: Priority, tenants: Collection[str], tasks: int) -> bool:
        """Whether the broker is well and has room, also for these tenants; what is promised is taken off the room.

        Only the first caller looks itself, unless `prepare` did; later the thread does, once a second at most.
        """
        if tasks > PUBLISH_AT_MOST:
            return False
        try:
            self.broker().circuit.check()
        except BrokerUnavailable:
            return False
        room = self._room or self._look_for_room()
        with self._bell:
            if room.is_old():
                self._hand_over(depth=True)
            return room.take(priority, tenants, tasks)

    def publish(self, tasks: Mapping[Priority, Sequence[int]]) -> None:
        """Publish these tasks, which the trigger of a committed transaction marked."""
        self._hand_over(tasks=tasks, urgent=Priority.URGENT in tasks)

    def close(self) -> None:
        """Publish what waits, for a bounded time."""
        with self._bell:
            self._closing = True
            self._bell.notify()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSING_PATIENCE_S)
        atexit.unregister(self.close)
        self.store.close()

    def forget(self) -> None:
        """In the child of a fork: what waits is the parent's to publish, and so is the connection."""
        atexit.unregister(self.close)

    def _hand_over(
        self, tasks: Mapping[Priority, Sequence[int]] | None = None, *, depth: bool = False, urgent: bool = False
    ) -> None:
        with self._bell:
            # While it debounces, the thread is not woken: it would wake for each save of a burst.
            rings = urgent or not self._waiting
            for priority, ids in (tasks or {}).items():
                self._waiting.tasks.setdefault(priority, []).extend(ids)
            self._waiting.depth |= depth
            self._waiting.urgent |= urgent
            if self._thread is None:
                self._start()
            elif rings:
                self._bell.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="embedq-publisher", daemon=True)
        try:
            thread.start()
        except RuntimeError as refused:  # no more threads, or the interpreter is about to end; what is saved is saved
            log.warning("not published, the steward will: %s", refused)
            self._waiting = _Waiting()
            return
        self._thread, self._closing = thread, False
        # A script that ends without closing: what it saved last is still sent.
        atexit.register(self.close)

    def _work(self) -> None:
        lasting = Lasting("embedq-publisher, what is not published is the steward's", threading.Event())
        while True:
            with lasting.attempt():
                waiting = self._next()
                if not waiting:
                    return
                self._publish(waiting)

    def _next(self) -> _Waiting:
        """What came since the last time, together; nothing when this is closed, or nothing came for long: then the thread has left."""
        with self._bell:
            self._bell.wait_for(lambda: self._waiting or self._closing, timeout=IDLE_S)
            linger_s = max(LINGER_S, self._sent_at + BURST_LINGER_S - time.monotonic())
            self._bell.wait_for(lambda: self._waiting.urgent or self._closing, timeout=linger_s)
            waiting, self._waiting = self._waiting, _Waiting()
            if not waiting:
                self._thread = None
                atexit.unregister(self.close)
                self.store.close()
            return waiting

    def _publish(self, waiting: _Waiting) -> None:
        if waiting.tasks:
            self._send(waiting.tasks)
            self._sent_at = time.monotonic()
        if waiting.depth:
            self._look_for_room()

    def _send(self, tasks: Mapping[Priority, Sequence[int]]) -> None:
        size = self.settings.batch_size
        batches = (
            (priority, ids[at : at + size])
            for priority in Priority
            if (ids := tasks.get(priority))
            for at in range(0, len(ids), size)
        )
        try:
            self.broker().publish(batches, self.store.watch.identity)
        except BrokerUnavailable as away:
            log.info("not published, the steward will: %s", away)
            self.store.tasks.free([task for ids in tasks.values() for task in ids])

    def _look_for_room(self) -> _Room:
        live, tasks = self.store.status.live(), self.store.tasks
        bound = live.throttle.depth_of(self.settings.queue_max_depth)
        paused, share = set(live.paused_tenants), self.settings.tenant_depth
        depths, held = tasks.depths(bound), live.paused_priorities
        room = {priority: 0 if priority in held else bound - depth.dispatched for priority, depth in depths.items()}
        full = {
            priority: paused | set(tasks.tenants_over_share(priority, share)) if depth.dispatched >= share else paused
            for priority, depth in depths.items()
        }
        self._room = _Room(room, full, share)
        return self._room


class _Room:
    """How many messages the broker had room for at the last look, less those promised since. Threads share one lock."""

    def __init__(self, room: Mapping[Priority, int], full: Mapping[Priority, Collection[str]], share: int) -> None:
        self._left, self._full, self._share = dict(room), full, share
        self._promised: Counter[tuple[Priority, str]] = Counter()
        self._until = time.monotonic() + ROOM_HOLDS_S

    def is_old(self) -> bool:
        """True once in `ROOM_HOLDS_S`, for one caller, who then has it looked up again."""
        if time.monotonic() < self._until:
            return False
        self._until = time.monotonic() + ROOM_HOLDS_S
        return True

    def take(self, priority: Priority, tenants: Collection[str], tasks: int) -> bool:
        """`tasks` of these tenants; nothing is taken when there is no room for all of them, or a tenant has its share already."""
        full = self._full[priority]
        if self._left[priority] < tasks or any(
            tenant in full or self._promised[priority, tenant] >= self._share for tenant in tenants
        ):
            return False
        self._left[priority] -= tasks
        for tenant in tenants:
            self._promised[priority, tenant] += tasks
        return True
