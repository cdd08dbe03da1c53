"""Publishing what a writer's process has just saved: by a thread of its own, so that no save waits for the broker (SPEC G7).

The trigger marks such tasks as being with the broker; the thread sends their messages a moment later, those of many saves
together. What cannot be sent goes back to the table. When the process dies in between, the steward misses the messages
(docs/why/dispatched.rst) and dispatches the tasks again.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from .broker import Broker
from .errors import BrokerUnavailable, EmbedqError
from .model import Priority
from .settings import Settings
from .store import Store

log = logging.getLogger(__name__)

DEPTH_HOLDS_S = 1.0
# More than this at once is left to the steward, which publishes in large batches.
PUBLISH_AT_MOST = 500
CLOSING_PATIENCE_S = 5.0
# What is not urgent waits so long for company: one look and one message for what many saves have left.
LINGER_S = 0.005


@dataclass(slots=True)
class _Waiting:
    """What is to be published: tasks by priority, and new articles whose tasks are still to be looked up."""

    tasks: dict[Priority, list[int]] = field(default_factory=dict)
    articles: list[str] = field(default_factory=list)
    depth: bool = False
    urgent: bool = False

    def __bool__(self) -> bool:
        return bool(self.tasks or self.articles or self.depth)


class Publisher:
    """One per process, shared by its threads. `store` is its own, and closed with it; `broker` is asked for when there is something to publish."""

    def __init__(self, store: Store, broker: Callable[[], Broker], settings: Settings) -> None:
        self.store, self.broker = store, broker
        self.size, self.bound = settings.batch_size, settings.queue_max_depth
        self._waiting = _Waiting()
        self._bell = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._room: Mapping[str, int] | None = None
        self._room_until = 0.0

    def may_publish(self, priority: Priority, tasks: int) -> bool:
        """Whether the broker is well and has room. Only the first caller looks itself; later the thread does, once a second at most."""
        if tasks > PUBLISH_AT_MOST:
            return False
        try:
            self.broker().circuit.check()
        except BrokerUnavailable:
            return False
        if self._room is None:
            self._look_for_room()
        elif time.monotonic() > self._room_until:
            self._room_until = time.monotonic() + DEPTH_HOLDS_S
            self._hand_over(depth=True)
        return (self._room or {}).get(priority, 0) >= tasks

    def born(self, article_id: str, priority: Priority) -> None:
        """Publish the task of a new article, marked by its trigger."""
        self._hand_over(articles=[article_id], urgent=priority is Priority.URGENT)

    def publish(self, tasks: Mapping[Priority, Sequence[int]]) -> None:
        """Publish these tasks, marked by the trigger of the transaction that is committed now."""
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

    def _hand_over(
        self, tasks: Mapping[Priority, Sequence[int]] | None = None, articles: Sequence[str] = (), *,
        depth: bool = False, urgent: bool = False,
    ) -> None:  # fmt: skip
        with self._bell:
            for priority, ids in (tasks or {}).items():
                self._waiting.tasks.setdefault(priority, []).extend(ids)
            self._waiting.articles += articles
            self._waiting.depth |= depth
            self._waiting.urgent |= urgent
            if self._thread is None or not self._thread.is_alive():  # not alive: closed, or we are the child of a fork
                self._closing = False
                self._thread = threading.Thread(target=self._work, name="embedq-publisher", daemon=True)
                self._thread.start()
                # A script that ends without closing: what it saved last is still sent.
                atexit.register(self.close)
            self._bell.notify()

    def _work(self) -> None:
        while waiting := self._next():
            try:
                self._publish(waiting)
            except (EmbedqError, psycopg.Error) as away:
                log.info("not published, the steward will: %s", away)
            except Exception:
                # A thread that died of a surprise would leave a process that saves and never publishes.
                log.exception("the publisher met a surprise and goes on")

    def _next(self) -> _Waiting:
        """What came since the last time, together; nothing when this is closed and everything is done."""
        with self._bell:
            self._bell.wait_for(lambda: self._waiting or self._closing)
            self._bell.wait_for(lambda: self._waiting.urgent or self._closing, timeout=LINGER_S)
            waiting, self._waiting = self._waiting, _Waiting()
            return waiting

    def _publish(self, waiting: _Waiting) -> None:
        if waiting.articles:
            for priority, ids in self.store.articles.left_to_writer(waiting.articles).items():
                waiting.tasks.setdefault(priority, []).extend(ids)
        if waiting.tasks:
            self._send(waiting.tasks)
        if waiting.depth:
            self._look_for_room()

    def _send(self, tasks: Mapping[Priority, Sequence[int]]) -> None:
        batches = (
            (priority, ids[at : at + self.size])
            for priority in Priority
            if (ids := tasks.get(priority))
            for at in range(0, len(ids), self.size)
        )
        try:
            self.broker().publish(batches)
        except BrokerUnavailable as away:
            log.info("not published, the steward will: %s", away)
            self.store.tasks.free([task for ids in tasks.values() for task in ids])

    def _look_for_room(self) -> None:
        self._room_until = time.monotonic() + DEPTH_HOLDS_S
        self._room = {name: self.bound - depth for name, depth in self.store.tasks.dispatched_depth(self.bound).items()}
