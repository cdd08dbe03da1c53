"""Whatever is in the broker, a Celery worker sets it aside or ignores it, and goes on: the same process, and one started afterwards."""

from __future__ import annotations

import base64
import json
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import amqp
import pytest
import redis as redis_py

from embedq.broker import make_app
from embedq.model import Priority
from embedq.store import Store
from tests.envelopes import RAW, collected, envelope
from tests.support import Process, start_celery, until

# The whole of it: HOSTILE_MESSAGES=10000 pytest tests/contract/test_hostile_messages.py
MESSAGES = int(os.environ.get("HOSTILE_MESSAGES", "300"))
SLOW_S = 60 + MESSAGES / 20
KINDS: dict[str, dict[str, Any]] = {
    "timelimit": envelope([1], {"timelimit": "x"}),
    "delivery_info": envelope([1], {}, {"delivery_info": "x"}),
    "delivery_tag": envelope([1], {}, {"delivery_tag": ["x"]}),
    "headers": envelope([1], headers=None) | {"headers": [1]},
    "no properties": envelope([1]) | {"properties": None},
    "a name of the task's own": envelope([1], {"get": 5, "update": "x", "timelimit": [1]}),
    "eta": envelope([1], {"eta": {"__type__": "datetime", "__value__": 5}}),
    "body": envelope([1]) | {"body": {"__type__": "base64", "__value__": 5}},
}
COMMANDS: list[Any] = [
    5,
    "x",
    [],
    {},
    None,
    [1] * 1000,
    {"body": 5},
    {"body": "x", "properties": {"body_encoding": "base64"}},
    {"__type__": "bytes", "__value__": 5},
    {"method": 5},
    {"method": "ping", "arguments": 5},
    {"method": "ping", "destination": 5},
    {"method": "ping", "reply_to": "x", "ticket": {}},
    {"method": "add_consumer", "arguments": {"queue": ["x"]}},
    {"method": "add_consumer", "arguments": {"queue": "x", "exchange": 5}},
    {"method": "cancel_consumer", "arguments": {"queue": {}}},
    {"method": "ping", "pattern": "(a+)+$", "matcher": "pcre"},
    {"method": "pool_grow", "arguments": {"n": "x"}},
    {"method": "hello", "arguments": {"from_node": "x", "revoked": {"x": "y"}}},
    {"method": "rate_limit", "arguments": {"task_name": "embedq.embed", "rate_limit": "nan"}},
    {"method": "revoke", "arguments": {"task_id": [[]]}},
    {"method": "election", "arguments": {}},
    {"method": "ping", "arguments": {"x": float("nan")}, "destination": ["\ud800"]},
]


def fanned_out(body: Any, clock: Any = "x") -> bytes:
    """A remote command as kombu publishes it on Redis."""
    made = envelope([1], body=base64.b64encode(json.dumps(body).encode()).decode()) | {
        "headers": {"clock": clock, "expires": "x"}
    }
    return json.dumps(made).encode()


class OnRedis:
    def __init__(self, url: str) -> None:
        self.url, self.redis = url, redis_py.Redis.from_url(url)

    def send(self, raw: bytes, queue: str = "normal") -> None:
        self.redis.lpush(queue, raw)

    def command(self, body: Any) -> None:
        for data in (json.dumps(body).encode(), fanned_out(body)):
            self.redis.publish("/0.celery.pidbox", data)

    def left(self) -> int:
        return sum(self.redis.llen(queue) for queue in Priority)


class OnRabbitMQ:
    def __init__(self, url: str) -> None:
        self.url = url
        self._connect()

    def _connect(self) -> None:
        """Each message is confirmed: what RabbitMQ does not take must not take others along."""
        self.connection = amqp.Connection("127.0.0.1:5672", virtual_host=self.url.rpartition("/")[2], confirm_publish=True)
        self.connection.connect()
        self.channel = self.connection.channel()

    def send(self, raw: bytes, queue: str = "normal") -> None:
        """A message in Redis's form as AMQP has it; its bytes alone where AMQP cannot carry it."""
        try:
            made = json.loads(raw)
            self._publish(made["body"], made["headers"], made["properties"], made.get("content-type"), queue)
        except Exception:
            self._connect()
            self._publish(base64.b64encode(raw).decode(), {"task": "embedq.embed", "id": "x"}, {}, "application/json", queue)

    def _publish(self, body: str, headers: Any, properties: Any, content_type: Any, queue: str) -> None:
        message = amqp.Message(
            base64.b64decode(body),
            content_type=content_type,
            application_headers=headers,
            correlation_id=properties.get("correlation_id"),
        )
        self.channel.basic_publish(message, routing_key=queue)

    def raw_properties(self, packed: bytes, queue: str = "normal") -> None:
        class Packed(amqp.Message):
            def _serialize_properties(self) -> bytes:
                return packed

        self.channel.basic_publish(Packed(b"[[[1]], {}, {}]"), routing_key=queue)

    def command(self, body: Any) -> None:
        message = amqp.Message(json.dumps(body), content_type="application/json", application_headers={"clock": "x"})
        self.channel.basic_publish(message, exchange="celery.pidbox")

    def left(self) -> int:
        return sum(self.connection.channel().queue_declare(queue, passive=True).message_count for queue in Priority)


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def there(request: pytest.FixtureRequest, environment: dict[str, str], redis_url: str) -> OnRedis | OnRabbitMQ:
    """Where messages are put; the environment names that broker."""
    if request.param == "redis":
        return OnRedis(redis_url)
    environment["EMBEDDING_BROKER_URL"] = request.getfixturevalue("rabbitmq_url")
    return OnRabbitMQ(environment["EMBEDDING_BROKER_URL"])


@contextmanager
def survived(environment: dict[str, str], psql: Callable[..., Any]) -> Iterator[Process]:
    """A worker that meets what the block sends, then embeds an article, in the same process; and so does one that is started afterwards."""

    def embeds(article: str, worker: Process) -> None:
        psql("INSERT INTO articles (id, content) VALUES (%s, %s)", article, f"text of {article}")
        ready = lambda: psql("SELECT embedding_status FROM articles WHERE id = %s", article) == [("ready",)]  # noqa: E731
        until(lambda: ready() or not worker.runs, SLOW_S, worker.output)
        assert worker.runs, worker.output()[-5000:]

    with start_celery(environment) as worker:
        yield worker
        embeds("after", worker)
        assert "Unrecoverable" not in worker.output()
    with start_celery(environment) as another:
        embeds("with another", another)


def test_each_kind_that_ended_a_worker_is_set_aside_by_itself(there, environment, psql, store: Store):
    with survived(environment, psql) as worker:
        for kind, made in KINDS.items():
            before = store.rejected.count() + worker.output().count("received")
            there.send(json.dumps(made).encode())
            told = lambda: store.rejected.count() + worker.output().count("received")  # noqa: E731
            until(lambda: told() > before or not worker.runs, 30, lambda: (kind, worker.output()))  # noqa: B023
            assert worker.runs, kind

    assert store.rejected.count() >= len(KINDS) - (1 if isinstance(there, OnRedis) else 6), store.rejected.by_reason()


def test_remote_commands_that_are_not_in_order_are_ignored(there, environment, psql):
    with survived(environment, psql) as worker:
        for body in COMMANDS:
            there.command(body)
        if isinstance(there, OnRedis):
            for data in (b"\xff", b"{" * 50_000, b"[" * 100_000, b"x" * 10_000_000):
                there.redis.publish("/0.celery.pidbox", data)
            there.redis.publish("/0.celeryev/worker.online", "5")
        app = make_app(there.url)
        until(lambda: app.control.ping(timeout=2.0), 30, worker.output)
        app.close()
        until(lambda: "a remote command is ignored" in worker.output(), 10, worker.output)


@pytest.mark.timeout(180 + 2 * SLOW_S)
def test_messages_by_the_hundred_are_set_aside_and_the_good_ones_among_them_embedded(there, environment, psql, store: Store):
    messages = collected(RAW, MESSAGES)
    psql("INSERT INTO articles (id, content) SELECT 'g' || n, 'good ' || n FROM generate_series(1, 20) n")
    ids = [task for (task,) in psql("SELECT id FROM embedding_tasks")]
    good = [json.dumps(envelope([task])).encode() for task in ids]

    with survived(environment, psql) as worker:
        for number, raw in enumerate(random.Random(1).sample(messages + good, len(messages) + len(good))):
            there.send(raw, list(Priority)[number % 4])
        until(lambda: not there.left() or not worker.runs, SLOW_S, worker.output)
        assert worker.runs, worker.output()[-5000:]

    assert psql("SELECT count(*) FROM articles WHERE embedding_status = 'ready'") == [(22,)]
    assert store.rejected.count() > MESSAGES / 4


def test_what_is_odd_among_the_unacknowledged_is_set_aside(environment, redis_url, psql, store: Store):
    there = OnRedis(redis_url)
    odd = [
        b"5",
        b"\xff",
        b"[1, 2, 3]",
        json.dumps([envelope([1]) | {"headers": [1]}, "embedq", "low"]).encode(),
        json.dumps([envelope([1], {}, {"priority": float("inf")}), "embedq", "low"]).encode(),
    ]
    good = json.dumps(
        [envelope([10**9]), "embedq", "low"]
    ).encode()  # goes back to its queue, and then names no task that is there
    for number, held in enumerate([*odd, good]):
        there.redis.hset("unacked", f"tag{number}", held)
        there.redis.zadd("unacked_index", {f"tag{number}": number})
    there.redis.zadd("unacked_index", {b"\xff": 0})
    there.redis.sadd("_kombu.binding.embedq", "garbage", b"\xff")

    with survived(environment, psql) as worker:
        until(lambda: not there.redis.hlen("unacked") or not worker.runs, 60, worker.output)
        until(lambda: store.rejected.count() == len(odd), 30, lambda: store.rejected.by_reason())

    assert there.redis.zmscore("unacked_index", [f"tag{number}" for number in range(len(odd) + 1)]) == [None] * (len(odd) + 1)
    assert {row["queue"] for row in store.rejected.listed(50)[0]} == {"unacked"}
    assert not there.left()


@pytest.mark.rabbitmq
def test_what_py_amqp_cannot_decode_is_set_aside(environment, rabbitmq_url, psql, store: Store):
    environment["EMBEDDING_BROKER_URL"] = rabbitmq_url
    there = OnRabbitMQ(rabbitmq_url)
    with start_celery(environment):
        pass  # the queues are there now

    def headers(table: bytes) -> bytes:
        return struct.pack(">HI", 1 << 13, len(table)) + table

    deep = b""
    for _ in range(3000):
        deep = b"A" + struct.pack(">I", len(deep)) + deep

    with survived(environment, psql) as worker:
        there.raw_properties(headers(b"\x01tT" + struct.pack(">Q", 2**62)))
        there.raw_properties(headers(b"\x01t" + deep))
        there.raw_properties(struct.pack(">HB", 1 << 10, 1) + b"\xff")  # a correlation id
        bomb = amqp.Message(
            zlib.compress(b"[" * 300_000_000),
            content_type="application/json",
            application_headers={"compression": "application/x-gzip"},
        )
        there.channel.basic_publish(bomb, routing_key="low")
        there.channel.basic_publish(amqp.Message(b"5"), exchange="celery.pidbox", routing_key=b"\xff")
        until(lambda: store.rejected.count() == 4 or not worker.runs, 60, lambda: (store.rejected.by_reason(), worker.output()))

    reasons = sorted(row["reason"] for row in store.rejected.listed(50)[0])
    assert reasons == ["its AMQP properties cannot be read"] * 3 + ["the body cannot be decompressed"]


def test_ten_megabytes_are_set_aside_as_a_prefix(there, environment, psql, store: Store):
    raw = json.dumps(envelope([1], body=base64.b64encode(b"[" * 10_000_000).decode())).encode()

    with survived(environment, psql) as worker:
        there.send(raw)
        until(lambda: store.rejected.count() or not worker.runs, 60, worker.output)

    ((row,), total) = store.rejected.listed(10)
    assert total == 1
    assert row["bytes"] > 10_000_000
    assert psql("SELECT octet_length(raw) FROM embedding_rejected_messages") == [(16 << 10,)]
