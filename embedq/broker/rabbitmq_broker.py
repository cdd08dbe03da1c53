"""The broker on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..decide.explaining import Place
from ..errors import BrokerUnavailable
from ..model import Priority
from .neighbours import BOARD, announce_on_board, on_board, present_on_board
from .protocol import InBroker, Keep
from .publisher import Publisher
from .rabbitmq import EXCHANGE, AmqpQueues, Declared
from .redis import task_ids

if TYPE_CHECKING:
    from celery import Celery

# Messages searched at most: workers do not receive them meanwhile, and RabbitMQ delivers so many within a few tenths of a second.
LOOK_THROUGH = 2000


class RabbitBroker(Publisher):
    """Quorum queues; what workers hold unacknowledged is not visible."""

    delays_messages = False
    not_removed: Sequence[str] = ()
    # Makes publishing to a deleted queue an error, after which the queue is declared again; otherwise RabbitMQ would drop the message.
    send_options = {"mandatory": True}

    def queue_name(self, priority: Priority) -> str:
        return self.prefix + priority

    def queues(self, more: Sequence[str] = ()) -> AmqpQueues:
        return AmqpQueues(self.connection, self.prefix, [*Priority, *more])

    def look(self, *, heads: bool = False) -> Mapping[str, InBroker]:
        with self.asked():
            return {queue: _in_rabbitmq(said) for queue, said in self.queues().look(heads=heads).items()}

    def of_another_kind(self) -> list[str]:
        return [name for name, seen in self.look().items() if seen.of_another_kind]

    def find_message(self, task: int, priority: str) -> tuple[Place, int | None]:
        with self.asked():
            said, front = AmqpQueues(self.connection, self.prefix, [priority]).front(LOOK_THROUGH)
        for ahead, raw in enumerate(front):
            if task in task_ids(raw):
                return Place.QUEUED, ahead
        if said.waiting > LOOK_THROUGH:
            raise BrokerUnavailable(
                f"it is not among the first {LOOK_THROUGH:,} of {said.waiting:,} messages in the queue {priority}",
                hint="`embedq broker status`",
            )
        return (Place.HELD_OR_LOST if said.consumers else Place.NOWHERE), None

    def remove(self) -> int:
        taken = self.drain(lambda queue, messages: None)
        with self.asked(), self._open() as connection:
            channel: Any = connection.channel()
            for queue in (*Priority, BOARD):
                channel.queue_delete(self.prefix + queue)
            channel.exchange_delete(EXCHANGE)
        return taken

    def remains(self) -> list[str]:
        return [queue for queue, seen in self.look().items() if seen.waiting]

    def was_wiped(self) -> bool:
        return False

    def announce(self, identity: str, name: str) -> list[str]:
        with self.asked(), self._open() as connection:
            return announce_on_board(connection, self.prefix, identity, name)

    def installations(self) -> Mapping[str, str]:
        with self.asked(), self._open() as connection:
            return present_on_board(connection, self.prefix)

    def declared(self) -> dict[str, Declared]:
        """The states of our queues. Raises BrokerUnavailable."""
        with self.asked():
            return self.queues().look()

    def shared_by(self) -> str:
        """The names of the installations that use this RabbitMQ, where there are several. Raises BrokerUnavailable."""
        with self.asked(), self._open() as connection:
            return on_board(connection, self.prefix)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self.connection() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            yield connection

    def refuse_unsuitable(self, wait_s: float) -> None:
        """Every RabbitMQ is suitable."""

    def install_consumer(self, app: Celery, keep: Keep) -> None:
        from . import rabbitmq_consumer

        rabbitmq_consumer.install(app, keep)


def _in_rabbitmq(said: Declared) -> InBroker:
    first = None if said.head is None else task_ids(said.head)
    return InBroker(said.waiting, 0, said.consumers, first=first, sees_held=False, of_another_kind=said.of_another_kind)
