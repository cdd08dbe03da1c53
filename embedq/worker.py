"""A process that embeds: its row in `embedding_workers`, its heartbeat, and what wakes it.

A lease is worth as long as its holder's heartbeat. The thread here writes one small row every `BEAT_S`, whatever the
process holds; when it cannot for `LEASE_S`, others take its tasks, and what it then settles is discarded.
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

from .errors import EmbedqError
from .store import Store

log = logging.getLogger(__name__)

LEASE_S = 10.0
BEAT_S = 2.0
SLEEP_FLAG_S = 3.0
AWAY_S = 1.0
SHORTEST_NAP_S = 0.01


class Worker:
    """`start()` registers the process; `id` is its lease holder's number, which changes when it was declared dead."""

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

    def start(self) -> None:
        self.id = self.store.workers.register(self.delivery, self.name, self.queues, LEASE_S)
        self._threads = [
            threading.Thread(target=self._beat, name="embedq-heartbeat", daemon=True),
            threading.Thread(target=self._listen, name="embedq-listen", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave the register. What is still held then is rescued at once by whoever looks next."""
        self.stopping.set()
        self._left.set()
        self.ring()
        for thread in self._threads:
            thread.join(timeout=BEAT_S + 1)
        try:
            self.store.workers.leave(self.id)
        except EmbedqError as away:
            log.warning("could not leave the register of workers: %s", away)

    def _beat(self) -> None:
        # To the very end, not only until we are asked to stop: what is under way then needs its lease to settle.
        while not self._left.wait(BEAT_S * random.uniform(0.8, 1.0)):
            try:
                self.beat()
            except (EmbedqError, psycopg.Error) as away:
                log.warning("no heartbeat: %s", away)

    def beat(self) -> None:
        """One heartbeat; registers anew when this worker was declared dead. Raises StoreUnavailable.

        It also renews the announcement of those who sleep for longer than that was worth.
        """
        asleep_s = SLEEP_FLAG_S if self._sleepers else 0.0
        if self.store.workers.heartbeat(self.id, LEASE_S, self.counters, asleep_s) is None:
            lost, self.id = self.id, self.store.workers.register(self.delivery, self.name, self.queues, LEASE_S)
            log.warning("worker %s was declared dead; what it held was taken by others; it goes on as %s", lost, self.id)

    def _listen(self) -> None:
        while not self.stopping.is_set():
            try:
                with self.store.database.connect(name=f"{self.store.database.name} listen") as connection:
                    row = connection.execute("SELECT format('LISTEN %I', 'embedq_' || current_schema()) AS listen").fetchone()
                    assert row is not None
                    connection.execute(row["listen"])
                    while not self.stopping.is_set():
                        for _ in connection.notifies(timeout=1.0, stop_after=1):
                            self.ring()
            except (EmbedqError, psycopg.Error) as away:
                log.info("not listening for new tasks, polling goes on: %s", away)
                self.stopping.wait(1.0)

    def ring(self) -> None:
        """Wake whoever waits in this process."""
        with self._bell:
            self._rings += 1
            self._asleep_until = 0.0
            self._bell.notify_all()

    @property
    def rings(self) -> int:
        return self._rings

    def sleep(self, seen: int, for_s: float) -> None:
        """Wait until the bell has rung since `seen` (a value of `rings`), or `for_s` seconds, or the end."""
        with self._bell:
            self._sleepers += 1
            self._bell.wait_for(lambda: self._rings != seen or self.stopping.is_set(), timeout=for_s)
            self._sleepers -= 1

    def announce_sleep(self) -> bool:
        """Tell writers that somebody sleeps, so that they ring. True when that was news: then look once more before sleeping."""
        now = time.monotonic()
        with self._bell:
            if now < self._asleep_until - SLEEP_FLAG_S / 3:
                return False
            self._asleep_until = now + SLEEP_FLAG_S
        self.store.workers.fall_asleep(self.id, SLEEP_FLAG_S)
        return True

    def work(self, once: Callable[[], int], nap_s: Callable[[float], float]) -> None:
        """What a thread does until this worker stops: `once()` again and again, and a nap when that found nothing to do.

        `nap_s`: how long at most, `since_s` after it looked. The bell ends every nap.
        """
        thread = threading.current_thread().name
        while not self.stopping.is_set():
            seen, began = self.rings, time.monotonic()
            try:
                if once() or self.announce_sleep():
                    continue
                self.sleep(seen, nap_s(time.monotonic() - began))
            except (EmbedqError, psycopg.Error) as away:
                log.warning("%s waits: %s", thread, away)
                self.stopping.wait(AWAY_S * random.uniform(0.5, 1.0))
            except Exception:
                # A thread that died of a surprise would leave a worker that lives, beats and does nothing.
                log.exception("%s met a surprise and goes on", thread)
                self.stopping.wait(AWAY_S)
