"""The broker: messages out, and a look at what is in it. It is disposable; the table is the truth (SPEC G2).

A message is `embedq.embed` with a list of task ids, on the queue named like their priority.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import BrokerUnavailable
from .model import Priority

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

TASK = "embedq.embed"
MARK = "embedq:mark"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0


def shown(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}{parts.path}"


def is_redis(url: str) -> bool:
    return urlsplit(url).scheme.split("+")[0] in ("redis", "rediss", "unix", "sentinel")


def make_app(url: str, *, publishing_only: bool = False) -> Celery:
    """The Celery app. `publishing_only`: short time-outs, for writers and the steward; a worker's own are patient."""
    from celery import Celery

    from . import celery_settings as own

    app = Celery("embedq", broker=url, set_as_current=not publishing_only)
    app.config_from_object(os.environ.get("CELERY_CONFIG_MODULE") or own)
    if is_redis(url):
        options = own.REDIS_PUBLISH_OPTIONS if publishing_only else own.REDIS_WORKER_OPTIONS
    else:
        options = own.AMQP_PUBLISH_OPTIONS if publishing_only else {"confirm_publish": True}
    app.conf.update(broker_url=url, broker_transport_options=options)
    return app


@dataclass(slots=True)
class Circuit:
    """After a failure the broker is left alone for a while, so that no writer waits for a dead one."""

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    closed_until: float = 0.0
    why: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        left = self.closed_until - self.clock()
        if left > 0:
            raise BrokerUnavailable(
                f"the broker is left alone for {left:.1f} s more: {self.why}", hint="tasks wait in the table; nothing is lost"
            )

    def failed(self, why: str) -> None:
        with self.lock:
            self.failures += 1
            self.why = why
            self.closed_until = self.clock() + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.failures - 1, 10))

    def worked(self) -> None:
        self.failures, self.closed_until, self.why = 0, 0.0, ""


@dataclass(frozen=True, slots=True)
class InBroker:
    """What a broker holds for one queue: waiting messages, delivered but unacknowledged ones, and who consumes.

    `first` has the task ids of the message next in line and of the unacknowledged ones; None: cannot be seen here.
    """

    waiting: int
    unacknowledged: int
    consumers: int | None = None
    first: tuple[int, ...] | None = None


class Broker:
    """Publishing with short time-outs behind a circuit breaker, and a view of the queues. Threads may share it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.circuit = Circuit()
        self._app: Celery | None = None
        self._redis: Any = None
        self._lock = threading.Lock()

    @property
    def app(self) -> Celery:
        with self._lock:
            if self._app is None:
                self._app = make_app(self.url, publishing_only=True)
            return self._app

    def publish(self, batches: Iterable[tuple[Priority, Sequence[int]]]) -> None:
        """One message for each batch of task ids. Raises BrokerUnavailable; some may have been sent by then, which is harmless."""
        self.circuit.check()
        try:
            with self.app.producer_pool.acquire(block=True, timeout=2) as producer:
                for priority, ids in batches:
                    self.app.send_task(TASK, args=[list(ids)], queue=priority.value, producer=producer, retry=False)
        except Exception as away:  # kombu raises what the transport raises: OSError, redis and amqp errors, and its own
            self._failed(away)
        self.circuit.worked()

    def _failed(self, away: Exception) -> None:
        self.circuit.failed(f"{type(away).__name__}: {away}")
        self._forget()
        raise BrokerUnavailable(
            f"the broker at {shown(self.url)} cannot be reached ({type(away).__name__})",
            hint="is it running? tasks wait in the table; `embedq mode database` works without a broker",
        ) from away

    def _forget(self) -> None:
        """Connections of a pool that met a dead server are not used again."""
        with self._lock:
            app, self._app = self._app, None
        if app is not None:
            try:
                app.pool.force_close_all()
            except Exception as late:
                log.debug("closing connections to a dead broker: %s", late)

    def look(self) -> Mapping[str, InBroker]:
        """What is in each queue now. Raises BrokerUnavailable."""
        self.circuit.check()
        try:
            found = self._look_redis() if is_redis(self.url) else self._look_amqp()
        except Exception as away:
            self._failed(away)
            raise
        self.circuit.worked()
        return found

    @property
    def redis(self) -> Any:
        """A redis-py client with short time-outs (Redis brokers only)."""
        if self._redis is None:
            import redis

            self._redis = redis.Redis.from_url(self.url, socket_timeout=1.0, socket_connect_timeout=0.5, retry=None)
        return self._redis

    def _look_redis(self) -> dict[str, InBroker]:
        pipe = self.redis.pipeline(transaction=False)
        for name in Priority:
            pipe.llen(name.value)
            pipe.lrange(name.value, -1, -1)
        pipe.hvals("unacked")
        *answers, unacked = pipe.execute()
        held = held_by_queue(unacked)
        return {
            name.value: InBroker(answers[2 * i], len(held[name]), first=_first(answers[2 * i + 1], held[name]))
            for i, name in enumerate(Priority)
        }

    def _look_amqp(self) -> dict[str, InBroker]:
        found = {}
        with self.app.connection_for_write() as connection:
            for name in Priority:
                channel = connection.channel()
                try:
                    ok = channel.queue_declare(name.value, passive=True)
                    found[name.value] = InBroker(ok.message_count, 0, ok.consumer_count)
                except connection.channel_errors:
                    found[name.value] = InBroker(0, 0, 0)
        return found

    def was_wiped(self) -> bool:
        """True once after the broker lost everything it held (a Redis without our mark); the mark is set again."""
        if not is_redis(self.url):
            return False
        self.circuit.check()
        try:
            return bool(self.redis.set(MARK, "embedq", nx=True))
        except Exception as away:
            self._failed(away)
            raise

    def close(self) -> None:
        self._forget()
        if self._redis is not None:
            self._redis.close()


def held_by_queue(unacked: Sequence[bytes]) -> dict[str, list[Any]]:
    """Delivered but unacknowledged messages of Redis' `unacked` hash, by queue."""
    held: dict[str, list[Any]] = {name: [] for name in Priority}
    for raw in unacked:
        try:
            message, _exchange, routing_key = json.loads(raw)
            held[routing_key].append(message)
        except (ValueError, KeyError, TypeError):
            continue
    return held


def _first(waiting: Sequence[bytes], held: Sequence[Any]) -> tuple[int, ...]:
    found: list[int] = []
    for raw in [*waiting, *held]:
        found += task_ids(raw) or []
    return tuple(found)


def task_ids(raw: bytes | Mapping[str, Any]) -> list[int] | None:
    """The task ids of a message as Redis holds it; None when it is not one of ours or cannot be understood."""
    try:
        message = json.loads(raw) if isinstance(raw, bytes | str) else raw
        if message["headers"]["task"] != TASK:
            return None
        body = message["body"]
        if message.get("properties", {}).get("body_encoding") == "base64":
            body = base64.b64decode(body)
        (ids,) = json.loads(body)[0]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return ids if isinstance(ids, list) and all(isinstance(i, int) for i in ids) else None
