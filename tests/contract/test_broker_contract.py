"""What every broker promises (`embedq/broker/protocol.py`), on Redis and on RabbitMQ."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from embedq.broker import Broker, broker_at
from embedq.broker.rabbitmq_broker import LOOK_THROUGH, RabbitBroker
from embedq.broker.redis import task_ids
from embedq.broker.redis_broker import RedisBroker
from embedq.decide.explaining import Place
from embedq.errors import BrokerUnavailable
from embedq.model import Priority
from embedq.operations.explain import where_is
from embedq.settings import from_env
from tests.support import free_port, until

SERVERS = ["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]
BROKER_ROOM = Path(__file__).resolve().parents[2] / "embedq" / "broker"


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def broker(url: str) -> Iterator[Broker]:
    made = broker_at(url)
    yield made
    made.close()


@contextmanager
def held_by_a_consumer(broker: Broker, queue: str) -> Iterator[list[Any]]:
    """A consumer that acknowledges nothing; the messages it has."""
    from kombu import Consumer, Queue

    taken: list[Any] = []
    with broker.connection() as connection:
        channel = connection.channel()
        its_queue = Queue(queue, no_declare=True)
        with Consumer(channel, [its_queue], on_message=taken.append, auto_declare=False):
            deadline = time.monotonic() + 10
            while not taken:
                assert time.monotonic() < deadline, "no message was delivered"
                connection.drain_events(timeout=5)
            yield taken


def test_every_member_of_the_protocol_is_in_both_and_nothing_else_is_asked_of_them() -> None:
    members = {name for name in [*vars(Broker), *Broker.__annotations__] if not name.startswith("_")}

    for made in (RedisBroker("redis://127.0.0.1:1/0"), RabbitBroker("amqp://127.0.0.1:1//")):
        assert {name for name in members if inspect.getattr_static(made, name, None) is None} == set()


def test_no_module_outside_the_room_asks_which_broker_it_is() -> None:
    room = BROKER_ROOM.parent
    outside = [path for path in room.rglob("*.py") if BROKER_ROOM not in path.parents]

    asking = [
        str(path) for path in outside if any(word in path.read_text() for word in ("is_redis", "RedisBroker", "RabbitBroker"))
    ]

    assert asking == []


def test_what_is_published_is_seen_in_its_queue_with_the_message_next_in_line(broker: Broker) -> None:
    broker.publish([(Priority.NORMAL, [1, 2]), (Priority.NORMAL, [3]), (Priority.URGENT, [4])])

    seen = broker.look(heads=True)

    assert {queue: each.waiting for queue, each in seen.items()} == {"urgent": 1, "high": 0, "normal": 2, "low": 0}
    assert (seen["normal"].first, seen["urgent"].first) == ((1, 2), (4,))
    assert not any(each.of_another_kind for each in seen.values())


def test_a_message_is_found_with_the_number_ahead_of_it_and_stays_where_it_is(broker: Broker) -> None:
    broker.publish((Priority.LOW, [task, task + 1000]) for task in range(1, 6))

    for task, ahead in ((1, 0), (4, 3), (1005, 4)):
        assert broker.find_message(task, "low") == (Place.QUEUED, ahead)
        until(lambda: broker.look()["low"].waiting == 5)
    assert [task_ids(raw)[0] for queue, raw in broker.messages() if queue == "low"] in ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])


def test_a_task_without_a_message_has_none_anywhere(broker: Broker) -> None:
    broker.publish([(Priority.LOW, [1])])

    assert broker.find_message(7, "low") == (Place.NOWHERE, None)
    assert broker.find_message(1, "high") == (Place.NOWHERE, None)


def test_a_message_that_a_consumer_holds_is_not_reported_as_lost(broker: Broker) -> None:
    broker.publish([(Priority.HIGH, [1])])

    with held_by_a_consumer(broker, "high"):
        found, seen = broker.find_message(1, "high"), broker.look()["high"]

    assert found == ((Place.DELIVERED if seen.sees_held else Place.HELD_OR_LOST), None)
    assert seen.waiting == 0


@pytest.mark.rabbitmq
def test_only_the_front_of_a_long_queue_of_rabbitmq_is_looked_through(rabbitmq_url: str) -> None:
    broker = broker_at(rabbitmq_url)
    broker.publish((Priority.LOW, [task]) for task in range(1, LOOK_THROUGH + 2))

    assert broker.find_message(LOOK_THROUGH, "low") == (Place.QUEUED, LOOK_THROUGH - 1)
    until(lambda: broker.look()["low"].waiting == LOOK_THROUGH + 1)
    with pytest.raises(BrokerUnavailable, match="among the first"):
        broker.find_message(LOOK_THROUGH + 1, "low")
    assert broker.circuit.failures == 0
    broker.close()


def test_explain_says_where_the_message_is(broker: Broker, url: str, environment: dict[str, str]) -> None:
    settings = from_env(environment | {"EMBEDDING_BROKER_URL": url})
    task = {"id": 2, "status": "pending", "dispatched_at": "now", "priority": "normal"}
    broker.publish([(Priority.NORMAL, [1]), (Priority.NORMAL, [2])])

    place, words = where_is(settings, task)

    assert (place, words) == (Place.QUEUED, "in its queue, 1 messages ahead of it")


def test_a_drain_takes_every_message_after_it_was_committed(broker: Broker) -> None:
    broker.publish([(Priority.NORMAL, [1]), (Priority.HIGH, [2]), (Priority.NORMAL, [3])])
    taken: list[tuple[str, int]] = []

    number = broker.drain(lambda queue, page: taken.extend((queue, task_ids(raw)[0]) for raw in page), quiet_s=0.2)

    assert (number, sorted(taken)) == (3, [("high", 2), ("normal", 1), ("normal", 3)])
    assert all(each.waiting == 0 for each in broker.look().values())


def test_an_error_of_the_table_leaves_the_message_and_does_not_open_the_circuit(broker: Broker) -> None:
    broker.publish([(Priority.NORMAL, [1])])

    def refuse(queue: str, page: object) -> None:
        raise LookupError("the table is away")

    with pytest.raises(LookupError):
        broker.drain(refuse, quiet_s=0.0)
    taken: list[bytes] = []
    until(lambda: broker.drain(lambda queue, page: taken.extend(page), quiet_s=0.2) or taken)

    assert (broker.circuit.failures, [task_ids(raw) for raw in taken]) == (0, [(1,)])


def test_after_a_removal_nothing_of_ours_is_left(broker: Broker) -> None:
    broker.publish([(Priority.NORMAL, [1]), (Priority.LOW, [2])])
    assert broker.remains() != []

    assert broker.remove() == 2

    assert broker.remains() == []
    broker.reconnect()  # the next connection declares the queues again
    broker.publish([(Priority.NORMAL, [3])])
    assert broker.look()["normal"].waiting == 1


def test_queues_with_a_prefix_are_apart_and_only_they_can_be_emptied(broker: Broker, url: str) -> None:
    scratch = broker_at(url, prefix="embedq-test.")
    broker.publish([(Priority.NORMAL, [1])])
    scratch.publish([(Priority.NORMAL, [2])])

    broker.empty()
    scratch.empty()

    assert (broker.look()["normal"].waiting, scratch.look()["normal"].waiting) == (1, 0)
    scratch.close()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_server_that_is_away_is_asked_once_and_then_left_alone(scheme: str) -> None:
    broker = broker_at(f"{scheme}://127.0.0.1:{free_port()}/0")

    for ask in (lambda: broker.publish([(Priority.LOW, [1])]), broker.look, lambda: broker.find_message(1, "low")):
        broker.circuit.worked()
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            ask()
        with pytest.raises(BrokerUnavailable, match="is not called for"):
            ask()
