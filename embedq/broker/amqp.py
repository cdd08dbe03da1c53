"""The four queues as RabbitMQ keeps them. Draining consumes with manual acknowledgement: commit, then acknowledge.

What a live worker holds unacknowledged is out of reach until that worker acknowledges or goes; then it is back in its queue.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model import Priority

if TYPE_CHECKING:
    from celery import Celery

AT_ONCE = 2000
# So long nothing arrives from a queue that has something: it has been emptied.
LULL_S = 0.3
NOT_FOUND = 404

Taken = Callable[[str, Sequence[bytes]], None]


@dataclass(frozen=True, slots=True)
class Declared:
    """What RabbitMQ says of one queue."""

    waiting: int
    consumers: int


class AmqpQueues:
    def __init__(self, app: Celery, prefix: str = "", queues: Sequence[str] = tuple(Priority)) -> None:
        self.app, self.queues = app, [prefix + str(queue) for queue in queues]
        self.prefix = prefix

    def look(self) -> dict[str, Declared]:
        with self._connection() as connection:
            return {queue.removeprefix(self.prefix): _declared(connection, queue) for queue in self.queues}

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Every waiting message, without taking it: they are delivered to us and put back when we hang up."""
        with self._connection() as connection:
            found: list[tuple[str, bytes]] = []
            for queue in self.queues:
                waiting = _declared(connection, queue).waiting
                if not waiting:
                    continue
                reader = _Reader(connection, queue, prefetch=0)
                for page in reader.pages(waiting):
                    found += [(queue.removeprefix(self.prefix), raw) for raw, _ in page]
                reader.close()
        yield from found

    def drain(self, take: Taken, *, quiet_s: float, until: float) -> int:
        """As RedisQueues.drain."""
        taken, quiet_since = 0, time.monotonic()
        with self._connection() as connection:
            while True:
                step = sum(self._drain_queue(connection, queue, take, until) for queue in self.queues)
                taken += step
                now = time.monotonic()
                quiet_since = now if step else quiet_since
                if now - quiet_since >= quiet_s or now > until:
                    return taken
                time.sleep(min(0.1, quiet_s))

    def _drain_queue(self, connection: Any, queue: str, take: Taken, until: float) -> int:
        waiting, done = _declared(connection, queue).waiting, 0
        if not waiting:
            return 0
        reader = _Reader(connection, queue, prefetch=AT_ONCE)
        for page in reader.pages(waiting):
            take(queue.removeprefix(self.prefix), [raw for raw, _ in page])
            reader.acknowledge(page[-1][1])
            done += len(page)
            if time.monotonic() > until:
                break
        reader.close()
        return done

    def empty(self) -> None:
        """Remove the queues, whatever is in them (scratch queues only)."""
        if self.prefix:
            with self._connection() as connection:
                channel = connection.channel()
                for queue in self.queues:
                    channel.queue_delete(queue)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        with self.app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            yield connection


def _declared(connection: Any, queue: str) -> Declared:
    """A queue that does not exist holds nothing. Asking for one closes the channel, so each question has its own."""
    channel = connection.channel()
    try:
        said = channel.queue_declare(queue, passive=True)
    except connection.channel_errors as unknown:
        if getattr(unknown, "reply_code", NOT_FOUND) != NOT_FOUND:
            raise
        return Declared(0, 0)
    channel.close()
    return Declared(said.message_count, said.consumer_count)


class _Reader:
    """One consumer on a channel of its own: closing it puts back what was not acknowledged."""

    def __init__(self, connection: Any, queue: str, prefetch: int) -> None:
        self.connection = connection
        self.channel = connection.channel()
        self.arrived: list[tuple[bytes, Any]] = []
        self.channel.basic_qos(0, prefetch, False)
        self.channel.basic_consume(
            queue, no_ack=False, callback=lambda message: self.arrived.append((as_redis(message), message))
        )

    def pages(self, expected: int) -> Iterator[list[tuple[bytes, Any]]]:
        """What arrives, until `expected` messages have come or nothing does any more."""
        while expected > 0:
            page = self._page(min(expected, AT_ONCE))
            if not page:
                return
            expected -= len(page)
            yield page

    def _page(self, size: int) -> list[tuple[bytes, Any]]:
        while len(self.arrived) < size:
            try:
                self.connection.drain_events(timeout=LULL_S)
            except TimeoutError:
                break
        page, self.arrived = self.arrived[:size], self.arrived[size:]
        return page

    def acknowledge(self, message: Any) -> None:
        """This message and all before it."""
        self.channel.basic_ack(message.delivery_tag, multiple=True)

    def close(self) -> None:
        self.channel.close()


def as_redis(message: Any) -> bytes:
    """The message in the form that Redis would keep, so that one reader understands both, and S8 has it whole."""
    body = message.body if isinstance(message.body, bytes) else str(message.body).encode("utf-8", "surrogateescape")
    properties = dict(message.properties)
    headers = properties.pop("application_headers", None) or {}
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-type": properties.pop("content_type", None),
        "content-encoding": properties.pop("content_encoding", None),
        "headers": headers,
        "properties": properties | {"body_encoding": "base64"},
    }
    return json.dumps(envelope, default=str).encode()
