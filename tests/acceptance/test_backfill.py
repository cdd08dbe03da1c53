"""Backfill of existing articles, and articles in trouble: by the commands, on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from embedq import wiring
from embedq.engine.concurrency import Gate
from embedq.engine.runs import TheseTasks
from embedq.operations import backfill
from embedq.operations.backfill import Wanted
from tests.support import until

from .operating import answered, embed_due, invoked

Run = Callable[..., Result]


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    return lambda *words, code=0: invoked(environment, *words, code=code)


@pytest.fixture
def told(environment: dict[str, str]) -> Callable[..., Any]:
    return lambda *words, code=0: answered(environment, *words, code=code)


@pytest.fixture
def embed_some(settings) -> Callable[..., int]:
    return lambda batches=1000, **changes: embed_due(settings, batches, **changes)


@pytest.fixture
def old_articles(store, psql) -> Callable[..., None]:
    """Articles from before embedq made tasks: no task, no vector."""

    def make(count: int, prefix: str = "old", tenant: str = "default") -> None:
        psql("UPDATE embedding_worker_status SET mode = 'off'")
        psql(
            f"INSERT INTO articles (id, tenant_id, title, content)"
            f" SELECT '{prefix}' || n, '{tenant}', 'Tea ' || n, 'text ' || n FROM generate_series(1, {count}) n"
        )
        psql("UPDATE embedding_worker_status SET mode = 'database'")

    return make


def statuses(psql) -> dict[str, int]:
    return dict(psql("SELECT status, count(*) FROM embedding_tasks GROUP BY status"))


def test_a_dry_run_counts_and_does_nothing(told, old_articles, psql, environment):
    old_articles(30)
    old_articles(5, "acme", "acme")
    environment["EMBEDDING_PRICES"] = "hashing=1000000"

    everything = told("backfill", "--dry-run")
    one_tenant = told("backfill", "--dry-run", "--tenant", "acme")

    assert (everything["articles"], everything["tenants"], one_tenant["articles"]) == (35, 2, 5)
    bytes_of_text = psql("SELECT sum(octet_length(title) + octet_length(content) + 2) FROM articles")[0][0]
    assert everything["tokens"] == -(-bytes_of_text // 4)
    assert everything["cost"] == pytest.approx(everything["tokens"])
    assert statuses(psql) == {}


def test_a_backfill_queues_what_has_no_vector_and_no_task_and_nothing_else(told, old_articles, psql, embed_some):
    old_articles(10)
    psql("INSERT INTO articles (id, title, content) VALUES ('new', 'New', 'has a task')")
    embed_some()
    psql("INSERT INTO articles (id, title, content) VALUES ('newer', 'Newer', 'waits')")

    answer = told("backfill", "--yes", "--priority", "high", "--batch-size", "3", "--reason", "the old ones")
    embed_some()

    assert answer["queued"] == 10
    rows = psql(
        "SELECT DISTINCT metadata->>'reason', metadata->>'backfill', priority FROM embedding_tasks WHERE article_id LIKE 'old%'"
    )
    assert rows == [("migration", answer["backfill"], "high")]
    assert psql("SELECT count(*) FROM articles WHERE embedding_status <> 'ready'") == [(0,)]
    assert told("backfill", "status")["tasks"] == {"completed": 10}
    assert told("backfill", "--yes")["queued"] == 0


def test_an_interrupted_backfill_goes_on_under_the_same_id_behind_its_last_batch(told, store, old_articles, psql):
    old_articles(10)

    class Killed(BaseException):
        pass

    def killed_after_two_batches(queued: int) -> None:
        if queued >= 6:
            raise Killed

    with pytest.raises(Killed):
        backfill.run(store, Wanted(batch_size=3), "me", "test", killed_after_two_batches)
    half = told("backfill", "status")
    whole = told("backfill", "--yes", "--priority", "urgent")

    assert (half["state"], half["queued"]) == ("running", 6)
    assert (whole["backfill"], whole["resumed"], whole["queued"]) == (half["backfill"], True, 10)
    assert whole["priority"] == "low", "it goes on as it was begun"
    assert statuses(psql) == {"pending": 10}


def test_rollback_cancels_exactly_what_the_backfill_queued_and_says_what_was_done(told, old_articles, psql, embed_some):
    old_articles(10)
    first = told("backfill", "--yes")["backfill"]
    embed_some(batches=1, batch_size=4)
    psql("INSERT INTO articles (id, title, content) VALUES ('mine', 'Mine', 'not the backfill''s')")
    waiting = psql(
        "SELECT article_id FROM embedding_tasks WHERE status = 'pending' AND article_id LIKE 'old%' ORDER BY id LIMIT 1"
    )[0][0]
    psql("UPDATE articles SET content = 'edited by its author' WHERE id = %s", waiting)

    planned = told("backfill", "rollback", first, "--dry-run")
    answer = told("backfill", "rollback", "--yes", "--reason", "too expensive")
    again = told("backfill", "rollback", "--yes")

    assert planned["would_cancel"] == answer["cancelled"] == 5
    assert answer["kept"] == {"completed": 4, "taken over by an edit": 1}
    assert again["cancelled"] == 0
    open_ones = {row[0] for row in psql("SELECT article_id FROM embedding_tasks WHERE status = 'pending'")}
    assert open_ones == {"mine", waiting}
    assert psql("SELECT metadata->>'reason' FROM embedding_audit_logs WHERE category = 'backfill-rollback' LIMIT 1") == [
        ("too expensive",)
    ]


def test_a_backfill_that_was_rolled_back_is_not_taken_up_again(told, old_articles):
    old_articles(3)
    first = told("backfill", "--yes")["backfill"]
    told("backfill", "rollback", "--yes")

    second = told("backfill", "--yes")

    assert second["backfill"] != first
    assert (second["queued"], second["resumed"]) == (3, False)


def test_a_backfill_is_refused_where_no_tasks_are_made_and_without_yes(run, old_articles, psql):
    old_articles(1)

    unasked = run("backfill", code=2)
    psql("UPDATE embedding_worker_status SET mode = 'off'")
    refused = run("backfill", "--yes", code=3)

    assert "--yes" in unasked.stderr
    assert "embedq mode database" in refused.stderr
    assert statuses(psql) == {}


# Articles in trouble -------------------------------------------------------------------------------------------------------------------


def test_reindex_makes_a_vector_anew_and_search_goes_on_meanwhile(told, psql, embed_some, client):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title, content) VALUES ('tea', 'Tea', 'green leaves'), ('cup', 'Cup', 'porcelain')")
    embed_some()
    psql(
        "UPDATE embedding_vectors SET embedding = -1 * embedding WHERE article_id = 'tea'".replace(
            "-1 * embedding", "(embedding * array_fill(-1, ARRAY[64])::vector)"
        )
    )
    psql("UPDATE embeddings SET embedded_at = '2020-01-01'")
    rubbish = psql("SELECT embedding::text FROM embedding_vectors WHERE article_id = 'tea'")

    answer = told("articles", "reindex", "tea", "--priority", "high", "--reason", "rubbish")
    status_meanwhile = psql("SELECT embedding_status FROM articles WHERE id = 'tea'")
    found_meanwhile = {hit.article_id for hit in client.search("porcelain", 2)}
    embed_some()

    assert answer["made"] == 1
    assert status_meanwhile == [("ready",)]
    assert found_meanwhile == {"tea", "cup"}
    assert psql("SELECT embedding::text FROM embedding_vectors WHERE article_id = 'tea'") != rubbish
    assert psql("SELECT article_id FROM embeddings WHERE embedded_at > '2021-01-01'") == [("tea",)]
    assert client.search("green leaves", 1)[0].article_id == "tea"


def test_marked_articles_are_listed_reindexed_and_unmarked(told, psql, embed_some):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql(
        "INSERT INTO articles (id, title, content, metadata) SELECT 'a' || n, 'T', 'text ' || n, '{\"k\": 1}' FROM generate_series(1, 5) n"
    )
    embed_some()

    marked = told("articles", "mark-review", "a1", "a2", "--reason", "garbled")
    listed = told("articles", "mark-review")
    made = told("articles", "reindex", "--marked", "--yes")["made"]
    told("articles", "mark-review", "--clear", "--yes")

    assert marked == {"marked": 2}
    assert [(row["id"], row["review"]["reason"]) for row in listed] == [("a1", "garbled"), ("a2", "garbled")]
    assert made == 2
    assert embed_some() == 2
    assert psql("SELECT count(*) FROM articles WHERE metadata = '{\"k\": 1}' AND version = 1") == [(5,)]


def test_reindex_of_something_unknown_or_of_nothing_named_is_refused(run, psql):
    assert "nobody" in run("articles", "reindex", "nobody", code=1).stderr
    assert "--all" in run("articles", "reindex", code=2).stderr


# Throttle ----------------------------------------------------------------------------------------------------------------------------------


def test_a_throttle_bounds_each_claim_and_the_rate_of_all_and_off_ends_it(told, psql, embed_some):
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (id, title, content) SELECT 'a' || n, 'T', 'text ' || n FROM generate_series(1, 100) n")

    told("throttle", "--batch", "7", "--reason", "busy")
    one_batch = embed_some(batches=1)
    told("throttle", "--rate", "120/min")
    until_the_rate_is_used_up = embed_some()
    shown, in_status = told("throttle")["throttle"], told("status")["throttle"]
    told("throttle", "off")
    rest = embed_some()

    assert one_batch == 7
    assert one_batch + until_the_rate_is_used_up == 20, "ten seconds' worth of 120 a minute"
    assert shown == in_status == {"rate_per_min": 120.0, "batch": 7}
    assert rest == 80
    assert [
        row[0] for row in psql("SELECT metadata->'after' FROM embedding_audit_logs WHERE category = 'throttle' ORDER BY id")
    ] == [{"batch": 7}, {"batch": 7, "rate_per_min": 120.0}, {}]


def test_what_a_message_named_and_the_throttle_left_goes_back_to_the_table(told, psql, store, settings):
    psql("INSERT INTO articles (id, title, content) SELECT 'a' || n, 'T', 'text ' || n FROM generate_series(1, 10) n")
    psql("UPDATE embedding_tasks SET dispatched_at = clock_timestamp()")
    told("throttle", "--rate", "18/min")
    parts = wiring.worker_parts(settings, "celery")
    parts.worker.start()

    report = parts.engine.run(TheseTasks([row[0] for row in psql("SELECT id FROM embedding_tasks ORDER BY id")]))
    parts.close()

    assert report.claimed == 3
    left = psql(
        "SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NULL AND scheduled_at > clock_timestamp()"
    )
    assert left == [(7,)]


def test_no_more_batches_are_under_way_at_once_than_the_throttle_allows(psql, store, told):
    told("throttle", "--concurrency", "2")
    gate, inside, most, leave = Gate(store.throttles.live, threading.Event()), [], [], threading.Event()

    def one() -> None:
        with gate.entered():
            inside.append(1)
            most.append(gate.inside)
            leave.wait(20)

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: len(inside) == 2)
    told("throttle", "off")
    until(lambda: len(inside) == 5)
    leave.set()
    for thread in threads:
        thread.join()

    assert most[:2] == [1, 2]
    assert gate.inside == 0
