"""A Celery worker's consumer: remote commands are checked before they are executed. On RabbitMQ (docs/why/rabbitmq.rst) it also
takes urgent messages first, and stores messages that Celery cannot read instead of losing them.

RabbitMQ delivers from each queue two messages for each thread of the worker, and Celery would give them to its threads as they
came: a quarter from each queue, however urgent. So a message waits here, unacknowledged, until a thread is free, and the most
urgent goes first. When the connection ends, what waits is RabbitMQ's again.
"""

from __future__ import annotations

import base64
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from celery.bootsteps import RUN
from celery.worker import pidbox, state
from celery.worker.consumer import Consumer

from ..decide.control import clock_of, command_of
from ..decide.health import MAKE_ANEW
from ..decide.messages import for_celery
from ..decide.priority import order
from ..model import Priority
from . import framing
from .protocol import Keep
from .rabbitmq import as_redis, is_refused_declaration

log = logging.getLogger(__name__)

AGAIN_S = 2.0


class Waiting:
    """Messages that were delivered and wait for a thread, by the queue they came from."""

    def __init__(self) -> None:
        self._messages: dict[Priority, deque[Any]] = {queue: deque() for queue in Priority}
        self._turn = 0

    def add(self, queue: Priority, message: Any) -> None:
        self._messages[queue].append(message)

    def __len__(self) -> int:
        return sum(map(len, self._messages.values()))

    def take(self) -> Any:
        """The next in order; there has to be one."""
        self._turn += 1
        return next(self._messages[queue] for queue in order(self._turn) if self._messages[queue]).popleft()


class CheckedPidbox(pidbox.Pidbox):  # type: ignore[misc]
    """Celery's remote control, obeying only what `decide.control` lets pass."""

    def start(self, c: Any) -> None:
        super().start(c)
        self.consumer.on_message = self._looked_at

    def _looked_at(self, message: Any) -> None:
        body = message.body if isinstance(message.body, str) else bytes(message.body or b"")
        command = command_of(body)
        if isinstance(command, str):
            log.warning("a remote command is ignored: %s", command)
            return
        message.headers = {"clock": clock_of(message.headers)}
        self.on_message(command, message)


class CheckedConsumer(Consumer):  # type: ignore[misc]
    """Celery's own, without what workers tell each other (gossip, mingle): ours have no use for it, and would have to read it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        quiet = {"without_gossip": True, "without_mingle": True}
        options["worker_options"] = dict(options.get("worker_options") or {}) | quiet
        super().__init__(*arguments, **options)


class UrgentFirstConsumer(CheckedConsumer):
    """Without the 28 exchanges and queues of Celery's delayed delivery too: our waits are in the table."""

    keep: Keep

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        default_steps = [step for step in Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._waiting = Waiting()
        super().__init__(*arguments, **options)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Called at the start of each connection."""
        self._hand_over = super().create_task_handler(*arguments, **options)
        self._waiting = Waiting()
        return self._received

    def _received(self, message: Any) -> None:
        raw, queue = as_redis(message), queue_of(message)
        made = for_celery(raw, queue, str(uuid4()), datetime.now(UTC))
        if made is None:
            self._keep(queue, raw, message)
            return
        _make_anew(message, made)
        self._waiting.add(queue, message)
        self._fill_threads()

    def _fill_threads(self) -> None:
        while self._waiting and self.blueprint.state == RUN and len(state.reserved_requests) < self.pool.num_processes:
            self._hand_over(self._waiting.take())

    def call_soon(self, p: Any, *arguments: Any, **options: Any) -> Any:
        """Threads send their acknowledgements through this method: afterwards one of them is free."""
        soon = super().call_soon(p, *arguments, **options)
        super().call_soon(self._fill_threads)
        return soon

    def _keep(self, queue: Priority, raw: bytes, message: Any) -> None:
        """Acknowledged when it is in the table; until PostgreSQL answers it stays unacknowledged."""
        try:
            type(self).keep(queue, raw)
        except Exception as away:
            log.warning("a message on %s that Celery cannot take waits for the table: %s", queue, away)
            self.timer.call_after(AGAIN_S, self._keep, (queue, raw, message))
        else:
            message.ack_log_error(log, self.connection_errors)

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """RabbitMQ refused the connection (password, virtual host). Celery waits between attempts only if the server does not answer."""
        super().on_connection_error_before_connected(exc)
        time.sleep(AGAIN_S)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        if is_refused_declaration(exc):
            log.error("a queue is of another kind than ours, nothing can be consumed: %s; next: %s", exc, MAKE_ANEW)
            time.sleep(AGAIN_S)
        super().on_connection_error_after_connected(exc)


def _make_anew(message: Any, made: dict[str, Any]) -> None:
    """What Celery reads of it from now on; its delivery tag and routing are RabbitMQ's own."""
    message.body = base64.b64decode(made["body"])
    message.headers, message.properties = made["headers"], {"correlation_id": made["headers"]["id"], "priority": 0}
    message.content_type, message.content_encoding = made["content-type"], made["content-encoding"]


def queue_of(message: Any) -> Priority:
    """The routing key is the queue's name; a message that came by a foreign binding counts as normal."""
    key = message.delivery_info.get("routing_key")
    return Priority(key) if key in list(Priority) else Priority.NORMAL


def install(app: Any, keep: Keep | None = None) -> None:
    """From now on, workers of this app obey only remote commands that are in order. `keep`, on RabbitMQ: they also consume in order and
    hand what Celery cannot take to `keep(queue, raw)`."""
    pidbox.Pidbox = CheckedPidbox
    if keep is None:
        app.conf.worker_consumer = CheckedConsumer
        return
    framing.install()
    app.conf.worker_consumer = type("Keeping", (UrgentFirstConsumer,), {"keep": staticmethod(keep)})
