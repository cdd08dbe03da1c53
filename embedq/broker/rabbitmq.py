"""The four queues on RabbitMQ, which are quorum queues (docs/why/rabbitmq.rst). Draining consumes with manual acknowledgement: commit, then acknowledge.

Messages that a live worker holds unacknowledged cannot be seen or taken. RabbitMQ returns them to the queue when the worker's connection ends.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ..model import Priority
from .alarm import alarm_of, note_alarm
from .neighbours import on_board
from .places import nearest
from .quiet import Taken, until_quiet

# Delivery limit: by default RabbitMQ 4 drops a message at its 20th return, and reading a queue for a backup returns every message. A large number,
# because -1 (no limit) makes RabbitMQ 3 drop a message at its first return.
AMQP_QUEUE_ARGUMENTS: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
AT_ONCE = 2000
EXCHANGE = "embedq"
# A queue counts as empty when nothing arrives for this long.
LULL_S = 0.3
NOT_FOUND, PRECONDITION_FAILED = 404, 406
QUEUE_DECLARE = (50, 10)
# The largest prefetch of a consumer in AMQP 0-9-1. (0, no limit, means 2,000 to a quorum queue.)
LARGEST_PREFETCH = 65_535


@dataclass(frozen=True, slots=True)
class Declared:
    """The state of one queue. `head`: the message next in line, where it was asked for. `of_another_kind`: it was
    declared with other arguments than ours (a classic queue of an earlier version), so we can neither publish nor consume there."""

    waiting: int
    consumers: int
    head: bytes | None = None
    of_another_kind: bool = False


class Glimpse(NamedTuple):
    """`names`: of the installations, where there are several. `alarm`: why RabbitMQ accepts no messages; else empty."""

    queues: dict[str, Declared]
    names: str
    alarm: str


def glimpse(url: str, wait_s: float) -> Glimpse:
    """A look at the four queues without Celery and kombu, whose import would take a fifth of the time that `status` may take.

    No answer takes longer than `wait_s`. Raises the errors of py-amqp and the socket.
    """
    import amqp

    parts = urlsplit(nearest(url))
    connection = amqp.Connection(
        f"{parts.hostname or '127.0.0.1'}:{parts.port or 5672}",
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
        connect_timeout=wait_s,
        read_timeout=wait_s,
        write_timeout=wait_s,
        on_blocked=note_alarm,
    )
    try:
        connection.connect()
        found = {queue.value: _looked_at(connection, queue.value) for queue in Priority}
        names, alarm = on_board(connection), alarm_of(connection)
        if not alarm:  # during an alarm RabbitMQ does not read from connections that have published
            connection.close()
        return Glimpse(found, names, alarm)
    finally:
        connection.collect()  # closes the socket without the closing handshake, which could hang


class AmqpQueues:
    """`connect`: makes a connection of kombu's, not yet open."""

    def __init__(self, connect: Callable[[], Any], prefix: str = "", queues: Sequence[str] = tuple(Priority)) -> None:
        self.connect, self.queues = connect, [prefix + str(queue) for queue in queues]
        self.prefix = prefix
        self.ours = [prefix + queue for queue in Priority]

    def look(self, *, heads: bool = False) -> dict[str, Declared]:
        with self._connection() as connection:
            found = {
                queue: _looked_at(connection, queue) if queue in self.ours else _declared(connection, queue)
                for queue in self.queues
            }
            if heads:
                found = {
                    queue: replace(said, head=_head(connection, queue) if said.waiting else None)
                    for queue, said in found.items()
                }
        return {queue.removeprefix(self.prefix): said for queue, said in found.items()}

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Every waiting message, without taking it: messages are delivered, and returned to the queue when the channel is closed."""
        with self._connection() as connection:
            found: list[tuple[str, bytes]] = []
            for queue in self.queues:
                waiting = _declared(connection, queue).waiting
                if not waiting:
                    continue
                reader = _Reader(connection, queue, holds=waiting)
                for page in reader.pages(waiting):
                    found += [(queue.removeprefix(self.prefix), raw) for raw, _ in page]
                reader.close()
        yield from found

    def front(self, limit: int) -> tuple[Declared, list[bytes]]:
        """The state of one queue and its first messages, in order, without taking them."""
        with self._connection() as connection:
            said = _declared(connection, self.queues[0])
            if not said.waiting:
                return said, []
            expected = min(said.waiting, limit)
            reader = _Reader(connection, self.queues[0], holds=expected)
            found = [raw for page in reader.pages(expected) for raw, _ in page]
            reader.close()
        return said, found

    def drain(self, take: Taken, *, quiet_s: float, until: float, quiet_for_s: float = 0.0) -> int:
        """As RedisQueues.drain."""
        with self._connection() as connection:

            def once() -> int:
                return sum(self._drain_queue(connection, queue, take, until) for queue in self.queues)

            taken = until_quiet(once, quiet_s=quiet_s, until=until, quiet_for_s=quiet_for_s)
            self._make_anew(connection)
        return taken

    def _make_anew(self, connection: Any) -> None:
        """Delete queues that are empty and declared with other arguments; the next publisher or consumer declares them again."""
        for queue in self.ours:
            seen = _looked_at(connection, queue)
            if seen.of_another_kind and not seen.waiting:
                connection.channel().queue_delete(queue)

    def _drain_queue(self, connection: Any, queue: str, take: Taken, until: float) -> int:
        waiting, done = _declared(connection, queue).waiting, 0
        if not waiting:
            return 0
        reader = _Reader(connection, queue, holds=AT_ONCE)
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
        from . import framing

        framing.install()
        with self.connect() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            yield connection


def _declared(connection: Any, queue: str) -> Declared:
    """A queue that does not exist counts as empty."""
    return _asked(connection, queue) or Declared(0, 0)


def _head(connection: Any, queue: str) -> bytes | None:
    """The message next in line: taken, read, and returned to its place."""
    channel = connection.channel()
    message = channel.basic_get(queue)
    channel.close()
    return None if message is None else as_redis(message)


def _looked_at(connection: Any, queue: str) -> Declared:
    """One of our queues; a queue that does not exist is not created."""
    seen = _asked(connection, queue)
    return Declared(0, 0) if seen is None else replace(seen, of_another_kind=_differs(connection, queue))


def _asked(connection: Any, queue: str) -> Declared | None:
    """None: the queue does not exist. RabbitMQ closes the channel in that case, so each query uses a channel of its own."""
    channel = connection.channel()
    try:
        said = channel.queue_declare(queue, passive=True)
    except connection.channel_errors as unknown:
        if getattr(unknown, "reply_code", NOT_FOUND) != NOT_FOUND:
            raise
        return None
    channel.close()
    return Declared(said.message_count, said.consumer_count)


def _differs(connection: Any, queue: str) -> bool:
    """Whether RabbitMQ refuses our declaration of an existing queue."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=AMQP_QUEUE_ARGUMENTS)
    except connection.channel_errors as refused:
        if is_refused_declaration(refused):
            return True
        raise
    channel.close()
    return False


def is_refused_declaration(error: BaseException) -> bool:
    """The reply code alone does not suffice: RabbitMQ also uses it for other errors, such as a late acknowledgement."""
    return getattr(error, "reply_code", None) == PRECONDITION_FAILED and getattr(error, "method_sig", None) == QUEUE_DECLARE


class _Reader:
    """Consumers on a channel of their own, which together hold at least so many messages: closing it puts back what was not
    acknowledged."""

    def __init__(self, connection: Any, queue: str, holds: int) -> None:
        self.connection = connection
        self.channel = connection.channel()
        self.arrived: list[tuple[bytes, Any]] = []
        self.channel.basic_qos(0, min(holds, LARGEST_PREFETCH), False)
        for _ in range(math.ceil(holds / LARGEST_PREFETCH)):
            self.channel.basic_consume(
                queue, no_ack=False, callback=lambda message: self.arrived.append((as_redis(message), message))
            )

    def pages(self, expected: int) -> Iterator[list[tuple[bytes, Any]]]:
        """Messages as they arrive, until `expected` have come or none arrives any more."""
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
        """Acknowledge this message and all before it."""
        self.channel.basic_ack(message.delivery_tag, multiple=True)

    def close(self) -> None:
        self.channel.close()


def as_redis(message: Any) -> bytes:
    """The message in the format of Redis, so that one parser reads both and a rejected message is stored whole."""
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
    unreadable = properties.get("unreadable", b"")
    try:
        if not unreadable:
            return json.dumps(envelope, default=str).encode()
    except (TypeError, ValueError, RecursionError):
        pass  # header names that are not text, a table nested too deep
    return json.dumps({"body": envelope["body"], "unreadable": base64.b64encode(unreadable).decode()}).encode()
