"""What a save through the API leaves behind: the article, its task, and a message where there is to be one."""

from __future__ import annotations

import pytest


@pytest.fixture
def messages(client):
    """The task ids of all messages in the broker."""
    client.broker.drain(lambda queue, raw: None)
    return lambda: [task for queue in client.broker.look().values() for task in queue.first or ()]


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
