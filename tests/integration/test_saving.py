"""What a save through the API leaves behind: the article, its task, and a message where there is to be one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest

from embedq import ArticleDraft, Client
from embedq.broker.redis import task_ids
from embedq.client import publisher
from embedq.model import Priority
from tests.clients import KINDS, opened
from tests.redisprocess import own_redis
from tests.support import ROOT, env, until


@pytest.fixture(params=KINDS)
def make(request):
    """Makes clients of this parameter's kind."""
    return partial(opened, request.param)


@pytest.fixture
def client(make, settings):
    with make(settings) as opened:
        yield opened


@pytest.fixture
def messages(client):
    """The task ids of all messages in the broker, once this writer has sent what it had to send."""
    client.broker.drain(lambda queue, raw: None)

    def look() -> list[int]:
        client.publisher.close()
        return [task for queue in client.broker.look().values() for task in queue.first or ()]

    return look


def waiting(psql):
    return psql(
        "SELECT article_id, priority, metadata->>'reason', dispatched_at IS NOT NULL FROM embedding_tasks WHERE status = 'pending'"
    )


LIVE = {
    "celery": "mode = 'celery'",
    "hybrid": "mode = 'hybrid'",
    "database": "mode = 'database'",
    "off": "mode = 'off'",
    "stopped": "is_running = false",
    "refused": "submissions_accepted = false",
    "held": "dispatch_held = true",
}


@pytest.mark.parametrize("priority", list(Priority))
@pytest.mark.parametrize("change", LIVE.values(), ids=LIVE)
def test_a_save_returns_the_task_that_a_look_after_it_finds(settings, psql, change, priority):
    psql(f"UPDATE embedding_worker_status SET {change}")
    psql("INSERT INTO articles (id, title) VALUES ('again', 'an earlier one with a task of its own')")
    psql("DELETE FROM articles WHERE id = 'again'")
    with opened("Client", settings) as client:
        created = client.store.articles.create(
            ArticleDraft("Tea", "steeped", "again"), priority=priority, reason="", mode=None, by_writer=True, traceparent=None
        )
        found = client.store.watch.task_of("again")

    due = ("scheduled_at", "due_in_s")
    assert without(created.task, due) == without(found, due)
    assert found is None or found["due_in_s"] <= 0


def without(row, names):
    return row and {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize("mode", ["celery", "hybrid"])
def test_a_save_publishes_the_task_it_made(client, psql, messages, mode):
    psql(f"UPDATE embedding_worker_status SET mode = '{mode}'")

    article = client.create("Tea", "steeped", priority="high", reason="breaking news", metadata={"topic": "drinks"})

    assert waiting(psql) == [(article.id, "high", "breaking news", True)]
    assert messages() == [psql("SELECT id FROM embedding_tasks")[0][0]]
    assert client.get(article.id) == article


@pytest.mark.parametrize(
    "change", ["mode = 'database'", "dispatch_held = true", "is_running = false", "mode = 'database', is_running = false"]
)
def test_a_save_leaves_the_task_to_the_table_where_nothing_is_to_be_published(client, psql, messages, change):
    psql(f"UPDATE embedding_worker_status SET {change}")

    article = client.create("Tea", "steeped")

    assert waiting(psql) == [(article.id, "normal", "create", False)]
    assert messages() == []


@pytest.mark.parametrize("change", ["mode = 'off'", "submissions_accepted = false"])
def test_a_save_makes_no_task_where_none_is_wanted(client, psql, messages, change):
    psql(f"UPDATE embedding_worker_status SET {change}")

    article = client.create("Tea", "steeped")

    assert client.get(article.id) == article
    assert waiting(psql) == []
    assert messages() == []


def test_in_mode_sync_the_article_that_a_save_returns_is_embedded(client, psql):
    psql("UPDATE embedding_worker_status SET mode = 'sync'")

    assert client.create("Tea", "steeped").embedding_status == "ready"


def test_many_saves_share_their_messages(client, psql, messages):
    with client.publisher._bell:  # the thread is kept from beginning before all are saved
        articles = [client.create("Tea", f"steeped {number} minutes").id for number in range(5)]

    assert sorted(messages()) == [task for (task,) in psql("SELECT id FROM embedding_tasks ORDER BY id")]
    assert len(articles) == 5


@pytest.fixture
def own_broker(make, settings, tmp_path):
    """A Redis of the test's own, and a client that publishes to it and has done so."""
    with own_redis(tmp_path) as server, make(replace(settings, redis_url=server.url)) as client:
        client.create("Coffee", "pressed")
        until(lambda: client.broker.look()["normal"].waiting == 1, 10, "the first message did not come")
        yield server, client


def test_a_save_returns_before_a_frozen_broker_has_its_message(own_broker, psql):
    server, client = own_broker
    server.freeze()

    article = client.create("Tea", "steeped")

    marked = "SELECT dispatched_at IS NOT NULL FROM embedding_tasks WHERE article_id = %s"
    assert psql(marked, article.id) == [(True,)]  # its message is still to be sent
    until(lambda: psql(marked, article.id) == [(False,)], 10, "the task did not go back to the table")


def test_what_cannot_be_published_goes_back_to_the_table(own_broker, psql):
    server, client = own_broker
    server.kill()

    article = client.create("Tea", "steeped")
    client.publisher.close()

    assert psql("SELECT status, dispatched_at FROM embedding_tasks WHERE article_id = %s", article.id) == [("pending", None)]


def test_a_publisher_that_was_closed_begins_again_with_the_next_save(client, psql, messages):
    client.create("Tea", "steeped")
    first = messages()

    client.create("Coffee", "pressed")
    client.publisher.close()

    assert len(first) == 1
    assert client.broker.look()["normal"].waiting == 2


# How much a writer may publish ----------------------------------------------------------------------------------------------------

WITH_BROKER = "SELECT count(*) FROM embedding_tasks WHERE dispatched_at IS NOT NULL"


def save(client: Client, count: int, **more: str) -> None:
    for number in range(count):
        client.create("Tea", f"steeped {number} minutes", **more)


def test_a_burst_of_saves_does_not_exceed_the_brokers_bound(make, settings, psql):
    with make(replace(settings, queue_max_depth=50, tenant_max_pending=50)) as client:
        save(client, 120)

    assert psql(WITH_BROKER) == [(50,)]
    assert psql("SELECT count(*) FROM embedding_tasks") == [(120,)]


def test_a_burst_of_one_tenant_leaves_room_for_the_others(make, settings, psql):
    with make(replace(settings, tenant_max_pending=10)) as client:
        save(client, 40, tenant_id="big")
        client.create("Tea", "steeped", tenant_id="small")

    assert psql(f"{WITH_BROKER} AND tenant_id = 'big'") == [(10,)]
    assert psql(f"{WITH_BROKER} AND tenant_id = 'small'") == [(1,)]


def test_a_writer_keeps_to_the_throttle(make, settings, psql):
    psql("""UPDATE embedding_worker_status SET throttle = '{"rate_per_min": 60}'""")
    with make(settings) as client:
        save(client, 40)

    assert psql(WITH_BROKER) == [(10,)]


@pytest.mark.parametrize("paused", ["paused_priorities = '{normal}'", "paused_tenants = '{default}'"])
def test_a_writer_publishes_nothing_that_is_paused(make, settings, psql, paused):
    psql(f"UPDATE embedding_worker_status SET {paused}")
    with make(settings) as client:
        save(client, 2)

    assert psql(WITH_BROKER) == [(0,)]


# The thread that publishes --------------------------------------------------------------------------------------------------------


def test_where_no_thread_can_be_started_a_save_is_a_save_all_the_same(client, psql, monkeypatch):
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)

    article = client.create("Tea", "steeped")

    client.close()
    assert psql("SELECT id FROM articles") == [(article.id,)]
    assert psql("SELECT status FROM embedding_tasks") == [("pending",)]


def test_a_client_that_is_not_closed_leaves_no_thread_and_no_connection_behind(settings, psql, monkeypatch):
    monkeypatch.setattr(publisher, "IDLE_S", 0.2)
    connections = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'embedq publisher'"
    )
    before = threading.active_count()
    client = Client(settings)
    client.create("Tea", "steeped")
    assert psql(connections) == [(1,)]

    until(lambda: threading.active_count() == before, 10, "the thread stays")
    until(lambda: psql(connections) == [(0,)], 10, "the connection stays")

    client.create("Coffee", "pressed")
    until(lambda: client.broker.look()["normal"].waiting == 2, 10, "what was saved later is not published")
    client.close()


FORKING = """
import json, os, sys
from embedq import ArticleDraft, Client

def saved(whose):
    wrong = [n for n in range(30) if client.create("Tea", f"{whose} {n}", id=f"{whose}{n}").id != f"{whose}{n}"]
    client.close()
    return wrong

client = Client()
client.create("Tea", "before the fork", id="before")
ours, theirs = os.pipe()
child = os.fork()
if child == 0:
    os.write(theirs, json.dumps(saved("child")).encode())
    sys.exit()
wrong = saved("parent")
assert os.waitpid(child, 0)[1] == 0
print(json.dumps(wrong + json.loads(os.read(ours, 10000))))
"""


def test_a_client_that_was_used_before_a_fork_serves_parent_and_child(environment, client, psql):
    client.broker.drain(lambda queue, raw: None)
    done = subprocess.run(
        [sys.executable, "-c", FORKING], env=env(environment), cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert psql("SELECT count(*), count(DISTINCT id) FROM articles") == [(61, 61)]
    sent = sorted(task for _, raw in client.broker.messages() for task in task_ids(raw))
    assert sent == [task for (task,) in psql("SELECT id FROM embedding_tasks ORDER BY id")]
