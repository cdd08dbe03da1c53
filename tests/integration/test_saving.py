"""What a save through the API leaves behind: the article, its task, and a message where there is to be one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedq import Client
from tests.redisprocess import own_redis
from tests.support import until


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
def own_broker(settings, tmp_path):
    """A Redis of the test's own, and a client that publishes to it and has done so."""
    with own_redis(tmp_path) as server, Client(replace(settings, redis_url=server.url)) as client:
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
