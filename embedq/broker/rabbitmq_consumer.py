"""A Celery worker's consumer: remote commands are checked before they are executed. On RabbitMQ (docs/why/rabbitmq.rst) it also
takes urgent messages first, and stores messages that Celery cannot read instead of losing them.

RabbitMQ delivers from each queue two messages per thread of the worker, and Celery would give them to its threads in the order of
arrival: a quarter from each queue, whatever its priority. Therefore messages wait here, unacknowledged, until a thread is free, and the
most urgent is taken first. When the connection ends, RabbitMQ returns the waiting messages to their queues.
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
    """Delivered messages that wait for a thread, by queue."""

    def __init__(self) -> None:
        self._messages: dict[Priority, deque[Any]] = {queue: deque() for queue in Priority}
        self._turn = 0

    def add(self, queue: Priority, message: Any) -> None:
        self._messages[queue].append(message)

    def __len__(self) -> int:
        return sum(map(len, self._messages.values()))

    def take(self) -> Any:
        """Take the most urgent message; there must be one."""
        self._turn += 1
        return next(self._messages[queue] for queue in order(self._turn) if self._messages[queue]).popleft()


class CheckedPidbox(pidbox.Pidbox):  # type: ignore[misc]
    """Celery's remote control, restricted to commands that `decide.control` accepts."""

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
    """Celery's consumer without gossip and mingle (messages between workers): they are not needed, and would have to be checked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        quiet = {"without_gossip": True, "without_mingle": True}
        options["worker_options"] = dict(options.get("worker_options") or {}) | quiet
        super().__init__(*arguments, **options)


class UrgentFirstConsumer(CheckedConsumer):
    """Also without the 28 exchanges and queues of Celery's delayed delivery: tasks that are due later wait in the table."""

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
        """Threads acknowledge through this method; afterwards the thread is free."""
        soon = super().call_soon(p, *arguments, **options)
        super().call_soon(self._fill_threads)
        return soon

    def _keep(self, queue: Priority, raw: bytes, message: Any) -> None:
        """Store the message, then acknowledge it; while PostgreSQL does not answer it stays unacknowledged."""
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
    """Replace what Celery reads by the checked fields; delivery tag and routing key come from RabbitMQ."""
    message.body = base64.b64decode(made["body"])
    message.headers, message.properties = made["headers"], {"correlation_id": made["headers"]["id"], "priority": 0}
    message.content_type, message.content_encoding = made["content-type"], made["content-encoding"]


def queue_of(message: Any) -> Priority:
    """The routing key is the queue's name; a message that came by another binding counts as normal."""
    key = message.delivery_info.get("routing_key")
    return Priority(key) if key in list(Priority) else Priority.NORMAL


def install(app: Any, keep: Keep | None = None) -> None:
    """Workers of this app execute only valid remote commands from now on. With `keep`, on RabbitMQ, they also consume by priority, and
    pass messages that Celery cannot read to `keep(queue, raw)`."""
    pidbox.Pidbox = CheckedPidbox
    if keep is None:
        app.conf.worker_consumer = CheckedConsumer
        return
    framing.install()
    app.conf.worker_consumer = type("Keeping", (UrgentFirstConsumer,), {"keep": staticmethod(keep)})
