"""A Celery worker that meets poison goes on, and the poison is kept."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import redis as redis_py

from embedq.broker import broker_at
from embedq.decide.messages import for_celery
from embedq.model import Priority
from embedq.operations.rollback.drain import drain
from tests.support import start_celery, until

POISON = [
    b"\xff\xfe no text at all",
    b"not json",
    b"[]",
    b'{"body": "%%%", "properties": {"body_encoding": "base64"}}',
    json.dumps({"body": "W10=", "headers": {"task": "embedq.embed"}, "properties": {"body_encoding": "base64"}}).encode(),
    json.dumps(
        {
            "body": json.dumps([[[1]], {}, {}]),
            "content-type": "application/json",
            "headers": {"task": "somebody.else"},
            "properties": {},
        }
    ).encode(),
]


def test_poison_on_every_queue_is_kept_and_the_worker_goes_on(environment, redis_url, store, psql):
    redis = redis_py.Redis.from_url(redis_url)
    with start_celery(environment) as worker:
        for queue in Priority:
            redis.lpush(queue.value, *POISON)

        psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")

        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], timeout_s=30, why=worker.output())
        until(lambda: store.rejected.count() == len(POISON) * 4, timeout_s=30, why=lambda: str(store.rejected.by_reason()))
        assert worker.runs
        assert [redis.llen(queue.value) for queue in Priority] == [0, 0, 0, 0]


def test_poison_that_cannot_be_kept_now_waits_in_redis_for_a_drain(environment, redis_url, store, psql):
    redis = redis_py.Redis.from_url(redis_url)
    with start_celery(environment) as worker:
        psql("ALTER TABLE embedding_rejected_messages RENAME TO away")
        redis.lpush("low", b"not json")
        worker.says("waits in Redis")
        psql("ALTER TABLE away RENAME TO embedding_rejected_messages")
        psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], timeout_s=30, why=worker.output())
        assert worker.runs

    drain(store, broker_at(redis_url), quiet_s=0.0)

    assert store.rejected.count() == 1


def test_a_message_without_an_id_is_taken_as_a_hint_and_not_handed_to_celery(environment, redis_url, store, psql):
    redis = redis_py.Redis.from_url(redis_url)
    psql("UPDATE embedding_worker_status SET is_running = false")
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
    (task,) = psql("SELECT id FROM embedding_tasks")[0]
    envelope = {
        "body": json.dumps([[[task]], {}, {}]),
        "content-type": "application/json",
        "headers": {"task": "embedq.embed"},
        "properties": {},
    }
    psql("UPDATE embedding_worker_status SET is_running = true")

    with start_celery(environment) as worker:
        redis.lpush("normal", json.dumps(envelope))

        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], timeout_s=30, why=worker.output())
        assert worker.runs
        assert store.rejected.count() == 0


def test_our_own_messages_are_deliverable(redis_url):
    broker = broker_at(redis_url)
    broker.publish([(Priority.LOW, [1, 2, 3])])

    raw = redis_py.Redis.from_url(redis_url).rpop("low")

    made = for_celery(raw, "low", "tag", datetime.now(UTC))
    assert made is not None
    assert json.loads(base64.b64decode(made["body"]))[0] == [[1, 2, 3]]
    broker.close()
