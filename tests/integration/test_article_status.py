"""What a reader of `articles` sees: the status is never wrong, the history is kept, and a tenant's move takes all along."""

from __future__ import annotations

import pytest

from embedq.model import Outcome, TaskStatus


@pytest.fixture
def status(psql):
    return lambda article="a": psql("SELECT embedding_status FROM articles WHERE id = %s", article)[0][0]


def test_the_status_follows_a_task_from_birth_to_vector(psql, add, poller, status):
    seen = []
    add("a")
    seen.append(status())
    (task,) = poller.claim()
    seen.append(status())
    poller.settle_done(task)
    seen.append(status())
    psql("UPDATE articles SET content = 'new'")
    seen.append(status())
    poller.settle_done(*poller.claim())
    seen.append(status())

    assert seen == ["queued", "processing", "ready", "queued", "ready"]


@pytest.mark.parametrize("ending", [TaskStatus.FAILED, TaskStatus.SKIPPED])
def test_an_article_that_could_not_be_embedded_says_so_until_it_is_edited(psql, add, poller, status, ending):
    add("a")
    (task,) = poller.claim()
    poller.settle(Outcome(task, ending, charged=True, error_class="InputRefused", message="no"))
    before = status()

    psql("UPDATE articles SET content = 'better'")

    assert (before, status()) == (ending.value, "queued")


def test_an_edit_back_to_the_text_that_is_stored_is_ready_at_once(psql, add, poller, status):
    add("a", text="first")
    poller.settle_done(*poller.claim())
    psql("UPDATE articles SET content = 'second'")

    psql("UPDATE articles SET content = 'first'")

    assert status() == "ready"


@pytest.mark.parametrize(
    ("by_hand", "shown"),
    [
        ("UPDATE embedding_tasks SET status = 'failed'", "failed"),
        ("UPDATE embedding_tasks SET status = 'cancelled'", "skipped"),
        ("UPDATE embedding_tasks SET status = 'skipped'", "skipped"),
        ("UPDATE embedding_tasks SET status = 'completed'", "queued"),
        ("DELETE FROM embedding_tasks", "queued"),
        ("DELETE FROM embeddings", "queued"),
    ],
)
def test_the_status_is_right_after_changes_by_hand(psql, add, status, by_hand, shown):
    add("a")

    psql(by_hand)

    assert status() == shown


def test_a_vector_that_was_removed_by_hand_is_not_called_ready(psql, add, poller, status):
    add("a")
    poller.settle_done(*poller.claim())

    psql("DELETE FROM embeddings")

    assert status() == "queued"


def test_a_failed_task_set_back_by_hand_is_queued_again(psql, add, status):
    add("a")
    psql("UPDATE embedding_tasks SET status = 'failed'")

    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL")

    assert status() == "queued"


def test_an_article_that_moves_to_another_tenant_takes_its_tasks_and_vectors_along(psql, add, poller):
    add("a", "b")
    poller.settle_done(*poller.claim())
    psql("UPDATE articles SET content = 'new' WHERE id = 'a'")

    psql("UPDATE articles SET tenant_id = 'acme' WHERE id = 'a'")

    assert psql("SELECT DISTINCT tenant_id FROM embedding_tasks WHERE article_id = 'a'") == [("acme",)]
    assert psql("SELECT article_id, tenant_id FROM embedding_vectors ORDER BY 1") == [("a", "acme"), ("b", "default")]


def test_every_superseded_text_is_kept_with_its_version(psql):
    psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'one')")
    psql("UPDATE articles SET content = 'two'")
    psql("UPDATE articles SET metadata = '{}'")
    psql("UPDATE articles SET title = 'Green tea'")

    assert psql("SELECT version_number, title, content FROM article_versions ORDER BY 1") == [
        (1, "Tea", "one"),
        (2, "Tea", "two"),
    ]
    assert psql("SELECT version FROM articles") == [(3,)]


def test_an_earlier_version_can_be_restored_and_is_embedded_again(client, psql):
    client.create("Tea", "one", id="a")
    client.edit("a", content="two")

    restored = client.restore("a", 1)

    assert (restored.content, restored.version) == ("one", 3)
    assert psql("SELECT version, priority, metadata->>'reason' FROM embedding_tasks") == [(3, "high", "restore")]


def test_a_deleted_article_can_be_restored_with_its_last_text(client):
    client.create("Tea", "one", id="a", slug="tea", tenant_id="acme")
    client.edit("a", content="two")
    client.delete("a")

    restored = client.restore("a")

    assert (restored.title, restored.content, restored.slug, restored.tenant_id) == ("Tea", "two", "tea", "acme")
    assert restored.embedding_status == "queued"


def test_an_article_born_again_under_its_old_id_continues_its_history(psql):
    psql("INSERT INTO articles (id, title) VALUES ('a', 'first life')")
    psql("UPDATE articles SET title = 'first life, edited'")
    psql("DELETE FROM articles")

    psql("INSERT INTO articles (id, title) VALUES ('a', 'second life')")
    psql("UPDATE articles SET title = 'second life, edited'")

    assert psql("SELECT version_number, title FROM article_versions ORDER BY 1") == [
        (1, "first life"),
        (2, "first life, edited"),
        (3, "second life"),
    ]


def test_an_article_born_again_without_a_task_is_found_stale(psql, store):
    psql("INSERT INTO articles (id, title) VALUES ('a', 'first life')")
    psql("DELETE FROM articles")
    psql("UPDATE embedding_worker_status SET mode = 'off'")
    psql("INSERT INTO articles (id, title) VALUES ('a', 'second life')")
    psql("UPDATE embedding_worker_status SET mode = 'database'")

    made = store.care.reconcile()["made"]

    assert made == 1
