"""A process that embeds: its row in `embedding_workers`, its heartbeat, and its wake-ups.

A lease is valid as long as its holder's heartbeat. The heartbeat thread updates one row every `BEAT_S`, for any number of tasks. After
`LEASE_S` without one, other workers take the tasks, and what this process then settles is discarded.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import psycopg

from ..addresses import hide
from ..decide.progress import LONG_S
from ..errors import EmbedqError
from ..store import Store
from ..telemetry.activity import UnderWay
from ..telemetry.meter import METER
from ..threads import Lasting

log = logging.getLogger(__name__)

LEASE_S = 10.0
BEAT_S = 2.0
SLEEP_FLAG_S = 3.0
SHORTEST_NAP_S = 0.01
# Registered for a Celery worker whose consumers were all cancelled; an empty list of queues means all queues.
NO_QUEUE = "none"
WORDS = 300
# Prefix of counters in the heartbeat: consecutive failures of a thread, if there are many.
FAILING = "failing "
# Further keys: the last failure's message; what threads wait for, and for how long (seconds); seconds since a provider last answered; the
# broker's address; why publishing failed.
WHY, AT, ANSWERED, BROKER, UNPUBLISHED = "why ", "at ", "answered_s", "broker", "unpublished"
# By model: the server and key that this process uses. By provider: its last fault, until a successful probe.
ASKS, FAULT = "asks ", "fault "


class Worker:
    """`start()` registers the process. `id`: its number as a lease holder; a new one after it was declared dead."""

    def __init__(self, store: Store, delivery: str, *, name: str | None = None, queues: Sequence[str] = ()) -> None:
        self.store = store
        self.delivery = delivery
        self.name = name or f"{delivery}@{socket.gethostname()}:{os.getpid()}"
        self.queues = list(queues)
        self.counters: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._left = threading.Event()
        self.id = 0
        self._bell = threading.Condition()
        self._rings = 0
        self._asleep_until = 0.0
        self._sleepers = 0
        self._threads: list[threading.Thread] = []
        # Called after each heartbeat, on its thread.
        self.with_each_beat: list[Callable[[], object]] = []
        self._lasting: list[Lasting] = []
        self.under_way = UnderWay()
        # Further entries of the heartbeat.
        self.said: dict[str, str] = {}

    def start(self) -> None:
        self.id = self.store.workers.register(self.delivery, self.name, self.queues, LEASE_S)
        # The heartbeat runs until stop(), not only until a stop is requested: batches under way need their lease to settle.
        self._threads = [
            self.lasting("embedq-heartbeat", self._left).start(self._beat),
            self.lasting("embedq-listen").start(self._listen),
        ]

    def lasting(self, name: str, stop: threading.Event | None = None) -> Lasting:
        """The loop of a thread of this process, until the worker stops. The heartbeat reports it when it fails repeatedly."""
        made = Lasting(name, stop or self.stopping)
        self._lasting.append(made)
        return made

    def announce_end(self) -> None:
        """Mark this worker as ending: it counts as gone, and may still settle the tasks that it holds."""
        self.stopping.set()
        self.ring()
        try:
            self.store.workers.end(self.id)
        except (EmbedqError, psycopg.Error) as away:
            log.warning("the end could not be written to the register of workers: %s", away)

    def stop(self) -> None:
        """Unregister, and hand back the tasks still held. Safe to call twice."""
        if self._left.is_set():
            return
        self.stopping.set()
        self._left.set()
        self.ring()
        try:
            handed_back = self.store.workers.leave(self.id)
            if handed_back:
                log.warning("%d tasks that were under way are handed back", handed_back)
        except (EmbedqError, psycopg.Error) as away:
            log.warning("could not leave the register of workers: %s", away)
        for thread in self._threads:
            thread.join(timeout=BEAT_S + 1)

    def _beat(self) -> None:
        if not self._left.wait(BEAT_S * random.uniform(0.8, 1.0)):
            self.beat()
            for also in self.with_each_beat:
                also()

    def beat(self) -> None:
        """Write one heartbeat; register again if this worker was declared dead. Raises StoreUnavailable.

        It also renews the flag that threads wait, which expires after `SLEEP_FLAG_S`.
        """
        asleep_s = SLEEP_FLAG_S if self._sleepers else 0.0
        known = self.store.workers.heartbeat(self.id, LEASE_S, {**self.counters, **self._condition()}, asleep_s)
        if not known and not self.stopping.is_set():
            lost, self.id = self.id, self.store.workers.register(self.delivery, self.name, self.queues, LEASE_S)
            log.warning("worker %s was declared dead; what it held was taken by others; it goes on as %s", lost, self.id)

    def _condition(self) -> dict[str, float | str]:
        """The state of this process for `status` and `health`, beyond its counters."""
        failing = [each for each in [*self._lasting] if each.fails]
        answered_s = METER.since_s("provider_inputs")
        return {
            **{f"{FAILING}{each.name}": each.failures for each in failing},
            **{f"{WHY}{each.name}": hide(each.why, names=True)[:WORDS] for each in failing},
            **{f"{AT}{stage}": long_s for stage, long_s in self.under_way.longer_than(LONG_S).items()},
            **({} if answered_s is None else {ANSWERED: answered_s}),
            **self.said,
        }

    def _listen(self) -> None:
        """LISTEN on a separate connection; polling continues if it fails."""
        with self.store.database.connect(name=f"{self.store.database.name} listen") as connection:
            row = connection.execute("SELECT format('LISTEN %I', 'embedq_' || current_schema()) AS listen").fetchone()
            assert row is not None
            connection.execute(row["listen"])
            while not self.stopping.is_set():
                for _ in connection.notifies(timeout=1.0, stop_after=1):
                    self.ring()

    def ring(self) -> None:
        """Wake the threads of this process that wait for work."""
        with self._bell:
            self._rings += 1
            self._asleep_until = 0.0
            self._bell.notify_all()

    @property
    def rings(self) -> int:
        return self._rings

    def sleep(self, seen: int, for_s: float) -> None:
        """Wait for a wake-up since `seen` (a value of `rings`), `for_s` seconds at most, or until the worker stops."""
        with self._bell:
            self._sleepers += 1
            self._bell.wait_for(lambda: self._rings != seen or self.stopping.is_set(), timeout=for_s)
            self._sleepers -= 1

    def announce_sleep(self) -> bool:
        """Set the flag that a thread waits, so that writers send a NOTIFY. True if it was not set yet: look for tasks once more before waiting."""
        now = time.monotonic()
        with self._bell:
            if now < self._asleep_until - SLEEP_FLAG_S / 3:
                return False
            self._asleep_until = now + SLEEP_FLAG_S
        self.store.workers.fall_asleep(self.id, SLEEP_FLAG_S)
        return True

    def work(self, once: Callable[[], int], nap_s: Callable[[float], float]) -> Callable[[], None]:
        """One turn of a thread's loop: `once()`, and a pause if it found nothing to do.

        `nap_s(since_s)`: the longest pause, given the seconds since the last look. A wake-up ends it.
        """

        def turn() -> None:
            seen, began = self.rings, time.monotonic()
            if not once() and not self.announce_sleep():
                self.sleep(seen, nap_s(time.monotonic() - began))

        return turn
