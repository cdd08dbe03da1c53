"""What the chaos found, each in a test that needs no luck."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import psycopg
import pytest

from embedq import ArticleDraft, Client
from embedq.broker import TASK, Broker, broker_at, celery_settings
from embedq.client import sync
from embedq.engine.outcomes import waiting
from embedq.model import Delivery, Model, Priority
from embedq.providers.hashing import HashingProvider
from embedq.settings import Settings
from embedq.steward import lost_messages
from embedq.steward.lost_messages import LostMessages
from embedq.store import Store
from embedq.store.database import Database
from embedq.store.queries import QUERIES
from embedq.wiring import worker_parts
from tests.integration.conftest import Claimer
from tests.support import until


@pytest.fixture
def looking(store: Store, redis_url: str) -> LostMessages:
    """Over an empty broker that it has seen before."""
    made = LostMessages(store, broker_at(redis_url))
    made.look()
    return made


def message(*tasks: int) -> dict[str, Any]:
    """As kombu keeps one in Redis."""
    body = base64.b64encode(json.dumps([[list(tasks)], {}, {}]).encode()).decode()
    return {
        "body": body,
        "properties": {"body_encoding": "base64"},
        "headers": {"task": TASK},
        "content-type": "application/json",
    }


def in_dead_hands(broker: Broker, *tasks: int) -> None:
    broker.redis.hset("unacked", "tag", json.dumps([message(*tasks), "embedq", "normal"]))
    broker.redis.zadd("unacked_index", {"tag": time.time()})


def with_the_broker(psql, since: str = "10 s") -> set[int]:
    psql(f"UPDATE embedding_tasks SET dispatched_at = clock_timestamp() - interval '{since}' WHERE status = 'pending'")
    return dispatched(psql)


def dispatched(psql) -> set[int]:
    return {row[0] for row in psql("SELECT id FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL")}


def test_a_save_after_postgresql_hung_up_on_idle_connections_succeeds(database_url: str):
    database = Database(database_url, size=4)
    with psycopg.connect(database_url, autocommit=True) as operator:
        first = database.one("SELECT pg_backend_pid() AS pid")
        operator.execute("SELECT pg_terminate_backend(%s)", [first and first["pid"]])
        until(lambda: not operator.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [first and first["pid"]]).rowcount)

    again = database.one("SELECT pg_backend_pid() AS pid")

    assert again != first
    database.close()


def test_a_task_handed_back_while_its_successor_waits_is_cancelled_and_completely_so(poller: Claimer, psql):
    psql("INSERT INTO articles (id, content) VALUES ('a', 'one')")
    (task,) = poller.claim()
    psql("UPDATE articles SET content = 'two' WHERE id = 'a'")

    poller.settle(waiting(task, 1.0, "the provider was busy"))

    assert psql("SELECT status, completed_at IS NOT NULL, lease_holder FROM embedding_tasks ORDER BY id") == [
        ("cancelled", True, None),
        ("pending", False, None),
    ]


def test_a_message_in_dead_hands_gets_its_task_another_one_and_only_once(looking: LostMessages, psql, monkeypatch):
    monkeypatch.setattr(lost_messages, "HELD_S", 0.0)
    psql("INSERT INTO articles (id, content) VALUES ('a', 'one')")
    (task,) = with_the_broker(psql)
    in_dead_hands(looking.broker, task)

    looking.look()
    at_first = dispatched(psql)
    looking.look()
    at_last = dispatched(psql)
    again = with_the_broker(psql)
    looking.look()

    assert (at_first, at_last, again) == ({task}, set(), {task})
    assert dispatched(psql) == {task}


def test_a_message_in_dead_hands_does_not_hide_that_others_are_lost(looking: LostMessages, psql):
    psql("INSERT INTO articles (id, content) VALUES ('a', 'one'), ('b', 'two'), ('c', 'three')")
    held, done, lost = sorted(with_the_broker(psql))
    psql("UPDATE embedding_tasks SET status = 'completed' WHERE id = %s", done)
    in_dead_hands(looking.broker, held, done)

    looking.look()

    assert dispatched(psql) == {held}
    assert psql("SELECT count(*) FROM embedding_tasks WHERE id = %s AND status = 'pending'", lost) == [(1,)]


def test_what_waits_behind_the_next_message_in_line_is_not_taken_for_lost(looking: LostMessages, psql):
    psql("INSERT INTO articles (id, content) VALUES ('a', 'one'), ('b', 'two')")
    tasks = with_the_broker(psql)
    for task in sorted(tasks):
        looking.broker.publish([(Priority.NORMAL, [task])])

    looking.look()

    assert dispatched(psql) == tasks


def test_who_begins_to_lead_ends_the_stewardship_of_one_that_could_not_say_so(store: Store, psql):
    one, other = (store.workers.register(Delivery.POLLER, name, [], 60.0) for name in ("one", "other"))

    for worker in (one, other):
        store.database.execute(QUERIES.stewardship, {"worker": worker, "leading": True})

    assert psql("SELECT id FROM embedding_workers WHERE steward_since IS NOT NULL") == [(other,)]


def test_an_article_made_anew_during_a_sync_embedding_never_gets_its_former_texts_vector(client: Client, psql, monkeypatch):
    psql("UPDATE embedding_worker_status SET mode = 'off'")
    client.put([ArticleDraft("", "the former text", "a")])
    provider = HashingProvider(client.provider.model)

    class MeanwhileMadeAnew:
        model: Model = provider.model
        limits = provider.limits

        def embed(self, texts):
            client.delete("a")
            client.put([ArticleDraft("", "another text", "a")])
            return provider.embed(texts)

    sync.embed_now(client.store, MeanwhileMadeAnew(), ["a"])

    assert psql("SELECT count(*) FROM embeddings") == [(0,)]


def test_a_prober_that_died_holds_the_others_up_no_longer_than_a_request_may_take(store: Store, settings: Settings):
    engine = worker_parts(settings, Delivery.POLLER).engine
    store.providers.pause("hashing", 0.0, "it was ill")

    assert store.providers.may_probe("hashing", engine.circuit.probe_s)
    assert not store.providers.may_probe("hashing", engine.circuit.probe_s)

    state = store.providers.state("hashing")
    assert state is not None
    assert settings.provider_timeout_s < state.probe_left_s < settings.provider_timeout_s + 10


def test_a_worker_of_threads_does_not_try_to_cancel_what_it_cannot_when_the_broker_goes_away():
    """Celery's pool of threads raises NotImplementedError then, and the worker exits."""
    assert celery_settings.worker_pool == "threads"
    assert celery_settings.worker_cancel_long_running_tasks_on_connection_loss is False
