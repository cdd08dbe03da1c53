"""What only Redis has: unacknowledged and delayed messages in a hash, bytes that are no message, a server that freezes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from embedq import Client
from embedq.broker import TASK, Broker, broker_at, make_app
from embedq.errors import BrokerUnavailable
from embedq.model import ArticleDraft, Mode, Priority
from embedq.operations.rollback.drain import drain
from embedq.store import Store
from tests.redisprocess import own_redis


@pytest.fixture
def tasks(store: Store, client: Client) -> list[int]:
    store.status.set_mode(Mode.DATABASE, "test", "test")
    client.put([ArticleDraft(f"t{n}", f"text {n}") for n in range(5)])
    return [row["id"] for row in store.database.fetch("SELECT id FROM embedding_tasks ORDER BY id")]


def in_broker(broker: Broker) -> int:
    return sum(queue.waiting + queue.unacknowledged for queue in broker.look().values())


def test_what_a_worker_holds_unacknowledged_or_delayed_is_drained_too(store: Store, tasks: list[int], redis_url: str) -> None:
    broker = broker_at(redis_url)
    message = {
        "body": base64.b64encode(json.dumps([[tasks[:5]], {}, {}]).encode()).decode(),
        "properties": {"body_encoding": "base64"},
    }
    message |= {"headers": {"task": TASK, "eta": "2030-01-01T00:00:00"}, "content-type": "application/json"}
    broker.redis.hset("unacked", "tag", json.dumps([message, "embedq", "high"]))
    broker.redis.zadd("unacked_index", {"tag": 1})
    broker.redis.hset("unacked", "theirs", json.dumps([message, "celery", "another-program"]))
    store.database.execute("UPDATE embedding_tasks SET dispatched_at = now() WHERE id = ANY (%(ids)s)", {"ids": tasks[:5]})

    seen = broker.look()["high"]
    done = drain(store, broker, quiet_s=0.0)

    assert (seen.unacknowledged, seen.delayed) == (1, 1)
    assert (done.messages, done.freed) == (1, 5)
    assert broker.redis.hkeys("unacked") == [b"theirs"]
    assert broker.redis.zcard("unacked_index") == 0


def test_bytes_that_are_no_message_at_all_are_kept(store: Store, redis_url: str) -> None:
    broker = broker_at(redis_url)
    broker.redis.lpush(
        "normal", b"\x80\x04garbage", b"[]", b'{"body": "%%%", "properties": {"body_encoding": "base64"}}', b"{" * 5000
    )

    done = drain(store, broker, quiet_s=0.0)

    assert done.rejected == 4
    kept = store.database.fetch("SELECT raw FROM embedding_rejected_messages")
    assert b"\x80\x04garbage" in [bytes(row["raw"]) for row in kept]


def test_a_frozen_redis_is_given_up_quickly_and_left_alone(tmp_path: Path, store: Store) -> None:
    with own_redis(tmp_path) as server:
        broker = broker_at(server.url)
        assert in_broker(broker) == 0
        server.freeze()

        with pytest.raises(BrokerUnavailable):
            drain(store, broker)
        with pytest.raises(BrokerUnavailable, match="is not called for"):
            drain(store, broker)


def test_a_broker_that_comes_back_is_published_to_again(tmp_path: Path) -> None:
    with own_redis(tmp_path) as server:
        broker = broker_at(server.url)
        broker.publish([(Priority.NORMAL, [1])])
        server.kill()
        with pytest.raises(BrokerUnavailable):
            broker.publish([(Priority.NORMAL, [2])])
        server.start()

        broker.circuit.worked()
        broker.publish([(Priority.NORMAL, [3])])

        assert in_broker(broker) == 1


def test_a_worker_s_connection_can_be_closed_again_while_messages_are_in_hand(redis_url: str) -> None:
    """Celery does so at its end when Redis went away shortly before."""
    broker_at(redis_url).publish([(Priority.HIGH, [1])])
    connection = make_app(redis_url).connection_for_read()
    channel = connection.default_channel
    assert channel.basic_get("high") is not None
    channel._pool = channel._async_pool = None
    connection.transport.client = None

    connection.close()
