"""The broker: messages out, and a look at what is in it. It is disposable; the table is the truth (G2).

A message is `embedq.embed` with a list of task ids, on the queue named like their priority. May be imported by engine and above; uses settings and decide.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..addresses import hide, secret_of, shown
from ..decide.health import MAKE_ANEW
from ..decide.messages import OWN as TASK
from ..errors import BrokerUnavailable
from ..model import Priority
from .app import is_redis, lazy_app, make_app
from .neighbours import announce
from .places import nearest, place_of, redis_client
from .rabbitmq import AmqpQueues, Declared, is_refused_declaration
from .redis import RedisQueues, Seen, is_delayed, task_ids

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)

__all__ = [
    "MAKE_ANEW",
    "TASK",
    "Broker",
    "Circuit",
    "InBroker",
    "is_redis",
    "is_refused_declaration",
    "lazy_app",
    "make_app",
    "shown",
]

MARK = "embedq:mark"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0
CONNECTIONS = 10


@dataclass(slots=True)
class Circuit:
    """A circuit breaker: after a failure the broker is not called for a while, so that no writer waits for a dead one."""

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
    """What a broker holds for one queue: waiting messages, delivered but unacknowledged ones (`delayed` of them wait in a
    worker's memory for their time), and who consumes.

    `first` has the task ids of the message next in line, None where it was not asked for; `held` those of the unacknowledged
    ones, which on RabbitMQ nobody can see (`sees_held`). `of_another_kind`: it is not declared as ours are (RabbitMQ only).
    """

    waiting: int
    unacknowledged: int
    consumers: int | None = None
    first: tuple[int, ...] | None = None
    held: tuple[int, ...] = ()
    delayed: int = 0
    sees_held: bool = True
    of_another_kind: bool = False


class Broker:
    """Publishing with short time-outs behind a circuit breaker, and a view of the queues. Threads may share it."""

    def __init__(self, url: str, prefix: str = "") -> None:
        self.url, self.prefix = secret_of(url), prefix
        self.circuit = Circuit()
        self._app: Celery | None = None
        self._producers: Any = None
        self._redis: Any = None
        self._lock = threading.RLock()

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
        """Kombu's, not yet open: to this broker, whatever Celery's own variables say (CELERY_BROKER_URL); of a list, to a node that answers."""
        return self.app.connection_for_write(nearest(place_of(self.url).url))

    def publish(self, batches: Iterable[tuple[Priority, Sequence[int]]]) -> None:
        """One message for each batch of task ids. Raises BrokerUnavailable; some may have been sent by then, which is harmless."""
        self.circuit.check()
        try:
            with self.producers.acquire(block=True, timeout=2) as producer:
                for priority, ids in batches:
                    self._send(TASK, [list(ids)], priority, producer)
        except Exception as away:  # kombu raises what the transport raises: OSError, redis and amqp errors, and its own
            self._failed(away)
        self.circuit.worked()

    def publish_foreign(self, task: str, args: Sequence[object], priority: Priority) -> None:
        """A message as another program would leave it in our queue: for rehearsals. Raises BrokerUnavailable."""
        with self._asked(), self.producers.acquire(block=True, timeout=2) as producer:
            self._send(task, list(args), priority, producer)

    def _send(self, task: str, args: Sequence[object], priority: Priority, producer: Any) -> None:
        # Mandatory: publishing to a queue that was deleted is an error, after which it is declared again; else the message would be dropped.
        routed = {} if is_redis(self.url) else {"mandatory": True}
        self.app.send_task(task, args=args, queue=self._queue(priority), producer=producer, retry=False, **routed)

    def _failed(self, away: Exception) -> None:
        if isinstance(away, ImportError):
            raise away  # no broker was asked: a package is missing
        said = hide(str(away), names=True)
        self.circuit.failed(f"{shown(self.url)}: {type(away).__name__}: {said}")
        self._forget()
        if is_refused_declaration(away):
            raise BrokerUnavailable(
                f"the broker at {shown(self.url)} has a queue of another kind: {said}", hint=MAKE_ANEW
            ) from away
        raise BrokerUnavailable(
            f"the broker at {shown(self.url)} cannot be reached ({type(away).__name__})",
            hint="is it running? tasks wait in the table; `embedq mode database` works without a broker",
        ) from away

    def reconnect(self) -> None:
        """The next call opens new connections, which declare the queues again: a connection remembers what it declared."""
        self._forget()

    def _forget(self) -> None:
        """Connections of a pool that met a dead server are not used again."""
        with self._lock:
            producers, self._app, self._producers = self._producers, None, None
        if producers is not None:
            try:
                producers.force_close_all()
                producers.connections.force_close_all()
            except Exception as late:
                log.debug("closing connections to a dead broker: %s", late)

    def _queue(self, priority: Priority) -> str:
        return priority.value if is_redis(self.url) else self.prefix + priority

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """A call to the broker: its failure opens the circuit and is raised as BrokerUnavailable."""
        self.circuit.check()
        try:
            yield
        except _NotTheBroker as other:
            raise other.__cause__ or other from None
        except Exception as away:
            self._failed(away)
        self.circuit.worked()

    def look(self, *, heads: bool = False) -> Mapping[str, InBroker]:
        """What is in each queue now; `heads`: what is next in line too, for which RabbitMQ has to be asked. Raises BrokerUnavailable."""
        with self._asked():
            queues = self.queues()
            return _seen(queues.look() if isinstance(queues, RedisQueues) else queues.look(heads=heads))

    def queues(self, more: Sequence[str] = ()) -> RedisQueues | AmqpQueues:
        """The queues themselves; `more` names queues beyond our four (another program's)."""
        names = [*Priority, *more]
        return (
            RedisQueues(self.redis, self.prefix, names)
            if is_redis(self.url)
            else AmqpQueues(self.connection, self.prefix, names)
        )

    def drain(
        self,
        take: Callable[[str, Sequence[bytes]], None],
        *,
        quiet_s: float = 0.0,
        quiet_for_s: float = 0.0,
        limit_s: float = 600.0,
        more: Sequence[str] = (),
    ) -> int:
        """Take every message out; `take(queue, messages)` has committed them when it returns. Returns how many.

        Goes on until nothing came for `quiet_s` seconds, of which `quiet_for_s` have passed if there is nothing at the first look, and for
        `limit_s` at most. Raises BrokerUnavailable; what was taken by then is committed, and the rest is where it was or in a side list
        that the next drain begins with.
        """
        with self._asked():
            until = time.monotonic() + limit_s
            return self.queues(more).drain(_shielded(take), quiet_s=quiet_s, until=until, quiet_for_s=quiet_for_s)

    def of_another_kind(self) -> list[str]:
        """Our queues that are there and are not declared as we declare them (RabbitMQ only). Raises BrokerUnavailable."""
        return [name for name, seen in self.look().items() if seen.of_another_kind]

    def messages(self, more: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
        """Every message as (queue, raw), without taking it. Raises BrokerUnavailable."""
        with self._asked():
            yield from self.queues(more).messages()

    @property
    def redis(self) -> Any:
        """A redis-py client with short time-outs (Redis brokers only)."""
        if self._redis is None:
            self._redis = redis_client(self.url, socket_timeout=1.0, socket_connect_timeout=0.5, retry=None)
        return self._redis

    def was_wiped(self) -> bool:
        """True once after the broker lost everything it held (a Redis without our mark); the mark is set again."""
        if not is_redis(self.url):
            return False
        with self._asked():
            return bool(self.redis.set(self.prefix + MARK, "embedq", nx=True))

    def announce(self, identity: str, name: str) -> list[str]:
        """The names of other installations that use this Redis; none are known of RabbitMQ. Raises BrokerUnavailable."""
        if not is_redis(self.url):
            return []
        with self._asked():
            return announce(self.redis, self.prefix, identity, name)

    def close(self) -> None:
        self._forget()
        if self._redis is not None:
            self._redis.close()


class _NotTheBroker(Exception):
    """Carries an error of the caller's `take` past the circuit, which counts only the broker's."""


def _shielded(take: Callable[[str, Sequence[bytes]], None]) -> Callable[[str, Sequence[bytes]], None]:
    def taking(queue: str, messages: Sequence[bytes]) -> None:
        try:
            take(queue, messages)
        except Exception as error:
            raise _NotTheBroker from error

    return taking


def _seen(found: Any) -> dict[str, InBroker]:
    if not isinstance(found, Seen):
        return {queue: _in_rabbitmq(said) for queue, said in found.items()}
    return {queue: _in_redis(found, queue) for queue in found.waiting}


def _in_rabbitmq(said: Declared) -> InBroker:
    first = None if said.head is None else task_ids(said.head)
    return InBroker(said.waiting, 0, said.consumers, first=first, sees_held=False, of_another_kind=said.of_another_kind)


def _in_redis(seen: Seen, queue: str) -> InBroker:
    held, following = seen.held[queue], seen.next[queue]
    in_hand = tuple(task for raw in held for task in task_ids(raw))
    first = task_ids(following) if following else ()
    return InBroker(seen.waiting[queue], len(held), first=first, held=in_hand, delayed=sum(is_delayed(raw) for raw in held))
