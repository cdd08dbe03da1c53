"""What both brokers share: publishing by Celery, with a pool of connections and the circuit breaker; reading and draining the queues."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..addresses import hide, secret_of, shown
from ..decide.health import MAKE_ANEW
from ..decide.messages import OF
from ..decide.messages import OWN as TASK
from ..errors import BrokerUnavailable
from ..model import Priority
from .app import make_app
from .circuit import Circuit
from .places import nearest, place_of
from .protocol import Take
from .rabbitmq import is_refused_declaration

if TYPE_CHECKING:
    from celery import Celery

    from .rabbitmq import AmqpQueues
    from .redis import RedisQueues

log = logging.getLogger(__name__)

CONNECTIONS = 10


class Publisher:
    """The base of `RedisBroker` and `RabbitBroker`, which differ in `queues`, `queue_name` and `send_options`."""

    send_options: dict[str, Any] = {}

    def __init__(self, url: str, prefix: str = "") -> None:
        self.url, self.prefix = secret_of(url), prefix
        self.circuit = Circuit()
        self._app: Celery | None = None
        self._producers: Any = None
        self._lock = threading.RLock()

    def queue_name(self, priority: Priority) -> str:
        """The queue's name as Celery publishes to it."""
        return priority.value

    @property
    def app(self) -> Celery:
        with self._lock:
            if self._app is None:
                self._app = make_app(self.url, publishing_only=True, prefix=self.prefix)
            return self._app

    @property
    def producers(self) -> Any:
        """Producers on connections of our own: kombu's global pools stay closed for the whole process once one was closed."""
        from kombu.pools import ProducerPool

        with self._lock:
            if self._producers is None:
                connections = self.connection().Pool(limit=CONNECTIONS)
                self._producers = ProducerPool(connections, limit=CONNECTIONS)  # type: ignore[no-untyped-call]
            return self._producers

    def connection(self) -> Any:
        """A kombu connection, not yet open: to this broker, even if CELERY_BROKER_URL names another; of a list, to a node that answers."""
        return self.app.connection_for_write(nearest(place_of(self.url).url))

    def publish(self, batches: Iterable[tuple[Priority, Sequence[int]]], installation: str = "") -> None:
        self.circuit.check()
        try:
            with self.producers.acquire(block=True, timeout=2) as producer:
                for priority, ids in batches:
                    self._send(TASK, [list(ids)], priority, producer, {OF: installation} if installation else None)
        except Exception as away:  # kombu raises the transport's errors (OSError, redis, amqp) and its own
            self._failed(away)
        self.circuit.worked()

    def publish_foreign(self, task: str, args: Sequence[object], priority: Priority) -> None:
        with self.asked(), self.producers.acquire(block=True, timeout=2) as producer:
            self._send(task, list(args), priority, producer)

    def _send(
        self, task: str, args: Sequence[object], priority: Priority, producer: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        name = self.queue_name(priority)
        self.app.send_task(task, args=args, queue=name, producer=producer, retry=False, headers=headers, **self.send_options)

    def queues(self, more: Sequence[str] = ()) -> RedisQueues | AmqpQueues:
        """Our four queues; `more` names further ones, of another program."""
        raise NotImplementedError

    def messages(self, more: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
        with self.asked():
            yield from self.queues(more).messages()

    def drain(
        self, take: Take, *, quiet_s: float = 0.0, quiet_for_s: float = 0.0, limit_s: float = 600.0, more: Sequence[str] = ()
    ) -> int:
        with self.asked():
            until = time.monotonic() + limit_s
            return self.queues(more).drain(_shielded(take), quiet_s=quiet_s, until=until, quiet_for_s=quiet_for_s)

    def empty(self) -> None:
        self.queues().empty()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """A call to the broker: its failure opens the circuit and is raised as BrokerUnavailable."""
        self.circuit.check()
        try:
            yield
        except _NotTheBroker as other:
            raise other.__cause__ or other from None
        except Exception as away:
            self._failed(away)
        self.circuit.worked()

    def _failed(self, away: Exception) -> None:
        if isinstance(away, ImportError):
            raise away  # a package is missing; the broker was not called
        said = hide(str(away), names=True)
        self.circuit.failed(f"{shown(self.url)}: {type(away).__name__}: {said}")
        self.reconnect()
        if is_refused_declaration(away):
            raise BrokerUnavailable(
                f"the broker at {shown(self.url)} has a queue of another kind: {said}", hint=MAKE_ANEW
            ) from away
        raise BrokerUnavailable(
            f"the broker at {shown(self.url)} cannot be reached ({type(away).__name__})",
            hint="is it running? tasks wait in the table; `embedq mode database` works without a broker",
        ) from away

    def reconnect(self) -> None:
        with self._lock:
            producers, self._app, self._producers = self._producers, None, None
        if producers is not None:
            try:
                producers.force_close_all()
                producers.connections.force_close_all()
            except Exception as late:
                log.debug("closing connections to a dead broker: %s", late)

    def close(self) -> None:
        self.reconnect()


class _NotTheBroker(Exception):
    """Wraps an error of the caller's `take`, so that the circuit breaker counts only errors of the broker."""


def _shielded(take: Take) -> Callable[[str, Sequence[bytes]], None]:
    """`take` with errors that pass `Publisher.asked` unchanged and do not open the circuit."""

    def taking(queue: str, messages: Sequence[bytes]) -> None:
        try:
            take(queue, messages)
        except Exception as error:
            raise _NotTheBroker from error

    return taking
