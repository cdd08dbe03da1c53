"""The interface of a broker. Redis and RabbitMQ implement it; `tests/contract/test_broker_contract.py` runs on both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..decide.explaining import Place
from ..model import Priority
from .circuit import Circuit

if TYPE_CHECKING:
    from celery import Celery

# Stores one message, given its queue and its raw bytes; committed when it returns.
Keep = Callable[[str, bytes], None]
# Stores messages of one queue; committed when it returns.
Take = Callable[[str, Sequence[bytes]], None]


@dataclass(frozen=True, slots=True)
class InBroker:
    """What a broker holds for one queue: waiting messages, delivered but unacknowledged ones (`delayed` of them wait in a
    worker's memory for their time), and the number of consumers.

    `first` has the task ids of the message next in line, None where it was not asked for; `held` those of the unacknowledged
    ones, which RabbitMQ does not show (`sees_held` is false). `of_another_kind`: it is declared with other arguments than ours (RabbitMQ only).
    """

    waiting: int
    unacknowledged: int
    consumers: int | None = None
    first: tuple[int, ...] | None = None
    held: tuple[int, ...] = ()
    delayed: int = 0
    sees_held: bool = True
    of_another_kind: bool = False


class Broker(Protocol):
    """Publishing with short time-outs behind a circuit breaker, and a view of the queues. Threads may share it.

    Nothing is connected before the first call. Each method that talks to the server raises BrokerUnavailable, at once while the circuit
    is open.
    """

    url: str
    prefix: str
    circuit: Circuit
    delays_messages: bool
    """Whether a message with an ETA may be published: on Redis it waits in a worker's memory and takes no thread's place."""
    not_removed: Sequence[str]
    """What `remove` leaves on the server because other programs may use it, in words."""

    @property
    def app(self) -> Celery:
        """The Celery app that publishes here."""
        ...

    def connection(self) -> Any:
        """A connection of kombu's to this broker, not yet open; of several nodes, to one that answers."""
        ...

    def publish(self, batches: Iterable[tuple[Priority, Sequence[int]]], installation: str = "") -> None:
        """One message for each batch of task ids, whose header names the installation. When it raises, some may have been sent, which is harmless."""
        ...

    def publish_foreign(self, task: str, args: Sequence[object], priority: Priority) -> None:
        """Publish a message of a foreign task in our queue, as another program might: for rehearsals."""
        ...

    def reconnect(self) -> None:
        """The next call opens new connections, which declare the queues again: a connection remembers what it declared."""
        ...

    def look(self, *, heads: bool = False) -> Mapping[str, InBroker]:
        """What is in each queue now; `heads`: also the message next in line, which RabbitMQ has to deliver and take back for it."""
        ...

    def of_another_kind(self) -> list[str]:
        """Our queues that exist with other arguments than ours (RabbitMQ only)."""
        ...

    def find_message(self, task: int, priority: str) -> tuple[Place, int | None]:
        """Where the message that names this task is; for `Place.QUEUED` also how many messages are ahead of it in its queue.

        Also raises BrokerUnavailable if it is not among the messages at the front of the queue, of which a bounded number is searched.
        """
        ...

    def messages(self, more: Sequence[str] = ()) -> Iterator[tuple[str, bytes]]:
        """Every message as (queue, raw), without taking it. `more` names queues beyond our four (another program's)."""
        ...

    def drain(
        self, take: Take, *, quiet_s: float = 0.0, quiet_for_s: float = 0.0, limit_s: float = 600.0, more: Sequence[str] = ()
    ) -> int:
        """Take every message out; `take(queue, messages)` has committed them when it returns. Returns how many.

        Ends when no message came for `quiet_s` seconds (less `quiet_for_s` if the first look finds nothing), and after `limit_s` at most. When it
        raises, what was taken is committed; the rest is in the queue, or in a side list with which the next drain begins.
        """
        ...

    def empty(self) -> None:
        """Delete the queues with all messages: for scratch queues, so it does nothing without a prefix."""
        ...

    def remove(self) -> int:
        """Drop every message of ours, waiting or delivered, and the queues. Returns how many messages there were."""
        ...

    def remains(self) -> list[str]:
        """What of ours is on the server, by name; empty after `remove`."""
        ...

    def was_wiped(self) -> bool:
        """True once after Redis lost all its data (our marker key is missing; it is set again). Always false for RabbitMQ."""
        ...

    def announce(self, identity: str, name: str) -> list[str]:
        """Register the name of this installation; returns the names of others that use the same server."""
        ...

    def installations(self) -> Mapping[str, str]:
        """The names of the installations that use this server now, by identity."""
        ...

    def refuse_unsuitable(self, wait_s: float) -> None:
        """Raises ConfigError where this server cannot hold Celery's queues (a node of a Redis Cluster). No answer takes longer than `wait_s`."""
        ...

    def install_consumer(self, app: Celery, keep: Keep) -> None:
        """From now on, workers of this app check each message and remote command before Celery reads it; `keep` stores a message that
        Celery cannot read. Changes Celery's and kombu's classes in this process."""
        ...

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        ...
