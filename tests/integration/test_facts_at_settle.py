"""A settle writes what is true when it commits: whose the article is, what its text is, what is stored already."""

from __future__ import annotations

import numpy as np
import pytest

from embedq.client import sync
from embedq.engine.outcomes import without_asking
from embedq.model import Model, Outcome, Stored, TaskStatus, Usage
from embedq.providers.hashing import HashingProvider

from .conftest import done


@pytest.fixture
def stored(psql):
    """(article, its text is embedded, first number of its vector, whose the vector is)"""
    return lambda: psql(
        "SELECT a.id, e.text_hash = a.text_hash, left(v.embedding::text, 2), v.tenant_id FROM article_texts a"
        " LEFT JOIN embeddings e ON e.article_id = a.id LEFT JOIN embedding_vectors v ON v.article_id = a.id ORDER BY 1"
    )


def test_an_article_that_moved_while_it_was_embedded_is_found_under_its_new_tenant(psql, add, poller, store, stored):
    add("x", tenant="acme")
    tasks = poller.claim()

    psql("UPDATE articles SET tenant_id = 'zeta' WHERE id = 'x'")
    poller.settle_done(*tasks)

    assert stored() == [("x", True, "[1", "zeta")]
    assert store.care.verify()["problems"] == []


def test_a_move_that_is_under_way_when_the_settle_comes_moves_what_the_settle_stores(
    psql, add, poller, session, in_thread, stored
):
    add("x", "y", tenant="acme")
    tasks = poller.claim()
    moving = session()
    moving.do("UPDATE articles SET tenant_id = 'zeta' WHERE id = 'x'")
    settling = in_thread(poller.settle_done, *tasks)

    moving.commit()

    assert len(settling.result(10).states) == 2
    assert stored() == [("x", True, "[1", "zeta"), ("y", True, "[1", "acme")]


def test_a_task_that_names_another_tenant_than_its_article_stores_for_the_article_s(psql, add, poller, stored):
    add("x", tenant="acme")
    psql("UPDATE embedding_tasks SET tenant_id = 'default'")

    poller.settle_done(*poller.claim())

    assert stored() == [("x", True, "[1", "acme")]


def test_an_older_text_s_vector_never_replaces_that_of_a_text_that_came_back(psql, add, poller, another, store, stored):
    add("x", text="A")
    poller.settle_done(*poller.claim(), value=1.0)
    slow, quick = poller, another()
    psql("UPDATE articles SET content = 'B' WHERE id = 'x'")
    of_b = slow.claim()
    psql("UPDATE articles SET content = 'A' WHERE id = 'x'")

    outcome = without_asking(quick.claim()[0])
    assert outcome is not None and outcome.stored is None
    quick.settle(outcome)
    slow.settle_done(*of_b, value=2.0)

    assert stored() == [("x", True, "[1", "default")]
    assert store.care.verify()["problems"] == []


def test_a_task_that_needed_no_request_waits_again_when_its_vectors_were_replaced_meanwhile(
    psql, add, poller, another, state, stored
):
    add("x", text="A")
    poller.settle_done(*poller.claim(), value=1.0)
    slow, quick = poller, another()
    psql("UPDATE articles SET content = 'B' WHERE id = 'x'")
    of_b = slow.claim()
    psql("UPDATE articles SET content = 'A' WHERE id = 'x'")
    outcome = without_asking(quick.claim()[0])

    slow.settle_done(*of_b, value=2.0)
    quick.settle(outcome)

    assert state("x")[-1] == ("pending", 0)
    quick.settle_done(*quick.claim(), value=3.0)
    assert stored() == [("x", True, "[3", "default")]


def test_an_article_whose_number_went_back_is_embedded_at_the_first_try(psql, add, poller, store, stored, without_triggers):
    add("x", text="one")
    poller.settle_done(*poller.claim())
    for text in ("two", "three"):
        psql("UPDATE articles SET content = %s", text)
        poller.settle_done(*poller.claim())
    psql("DELETE FROM article_versions")
    without_triggers("UPDATE article_texts SET content = 'one', version = 1")
    psql("INSERT INTO embedding_tasks (article_id, model_id) SELECT 'x', model_id FROM embedding_active_model")

    poller.settle_done(*poller.claim(), value=5.0)

    assert stored() == [("x", True, "[5", "default")]
    assert store.care.reconcile()["made"] == 0
    assert store.care.verify()["problems"] == []


def test_a_number_that_was_given_before_is_not_given_again(psql, add, poller, store, without_triggers):
    add("x", text="one")
    psql("UPDATE articles SET content = 'two'")
    psql("UPDATE articles SET content = 'three'")
    without_triggers("UPDATE article_texts SET content = 'one', version = 1")

    store.care.reconcile()
    psql("UPDATE articles SET content = 'four'")

    assert psql("SELECT version_number, content FROM article_versions ORDER BY 1") == [(1, "one"), (2, "two"), (3, "one")]


def test_an_article_that_was_deleted_without_triggers_and_made_anew_is_embedded(psql, add, poller, stored, without_triggers):
    add("x", text="one")
    poller.settle_done(*poller.claim())
    psql("UPDATE articles SET content = 'two'")
    poller.settle_done(*poller.claim())
    psql("DELETE FROM article_versions")
    without_triggers("DELETE FROM article_texts")
    add("x", tenant="other", text="another")

    poller.settle_done(*poller.claim(), value=7.0)

    assert stored() == [("x", True, "[7", "other")]


def test_vectors_of_an_article_that_is_gone_are_not_stored(psql, add, poller, state, without_triggers):
    add("x")
    tasks = poller.claim()
    without_triggers("DELETE FROM article_texts")

    poller.settle_done(*tasks)

    assert state("x") == [("cancelled", 0)]
    assert psql("SELECT count(*) FROM embeddings") == psql("SELECT count(*) FROM embedding_vectors") == [(0,)]


def test_vectors_that_no_embedding_names_are_no_reason_to_fail(psql, add, poller, state, stored, without_triggers):
    add("x")
    poller.settle_done(*poller.claim())
    without_triggers("DELETE FROM embeddings")
    psql("UPDATE articles SET content = 'new'")

    poller.settle_done(*poller.claim(), value=4.0)

    assert state("x")[-1] == ("completed", 1)
    assert stored() == [("x", True, "[4", "default")]


def test_in_mode_sync_an_article_that_moved_meanwhile_is_stored_for_its_new_tenant(psql, store, stored):
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    psql("INSERT INTO articles (id, tenant_id, content) VALUES ('x', 'acme', 'some text')")
    model = store.models.active()

    class Mover:
        """A provider beside whose answer the article moves."""

        def __init__(self):
            self.real = HashingProvider(model)
            self.model, self.limits = self.real.model, self.real.limits

        def embed(self, *asked, **more):
            psql("UPDATE articles SET tenant_id = 'zeta' WHERE id = 'x'")
            return self.real.embed(*asked, **more)

    sync.embed_now(store, Mover(), ["x"])

    assert [(article, fits, tenant) for article, fits, _, tenant in stored()] == [("x", True, "zeta")]


def test_a_settle_that_is_repeated_because_its_answer_was_lost_is_billed_once(psql, add, poller):
    add("x")
    (task,) = poller.claim()
    outcome = done(task)._replace(usage=Usage(1.0, 1, 0, 100, 0.5))

    poller.settle(outcome)
    again = poller.settle(outcome)

    assert (again.states, again.late) == ({}, 1)
    assert psql("SELECT sum(requests), sum(tokens), sum(cost) FROM embedding_usage") == [(1.0, 100, 0.5)]


def test_in_mode_sync_a_batch_is_billed_to_each_tenant_also_where_all_texts_of_one_are_reused(psql, store, stored):
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    psql("INSERT INTO articles (id, tenant_id, content) VALUES ('before', 'acme', 'a text')")
    provider = HashingProvider(store.models.active())
    sync.embed_now(store, provider, ["before"])
    psql("DELETE FROM embedding_usage")
    psql("INSERT INTO articles (id, tenant_id, content) VALUES ('x', 'acme', 'a text'), ('y', 'zeta', 'another')")

    sync.embed_now(store, provider, ["x", "y"], prices="1000000")

    assert [(article, fits) for article, fits, *_ in stored()] == [("before", True), ("x", True), ("y", True)]
    assert psql("SELECT tenant_id, requests, inputs, reused, cost > 0 FROM embedding_usage ORDER BY 1") == [
        ("acme", 0.0, 0, 1, False),
        ("zeta", 1.0, 1, 0, True),
    ]


def test_a_result_that_came_too_late_is_billed_all_the_same(psql, add, poller):
    add("x")
    (task,) = poller.claim()
    psql("UPDATE embedding_tasks SET status = 'pending', processed_at = NULL")

    poller.settle(done(task)._replace(usage=Usage(1.0, 1, 0, 100, 0.5)))

    assert psql("SELECT sum(tokens) FROM embedding_usage") == [(100,)]


def test_a_worker_that_was_frozen_while_embedq_was_installed_anew_settles_nothing(psql, add, poller, store, another):
    from embedq.store import schema

    add("old")
    tasks = poller.claim()
    schema.downgrade(store.database)
    schema.upgrade(store.database)
    store.models.agree(Model("hashing", "hashing-v1", 64))
    store.status.set_mode("database", "test", "test")
    psql("INSERT INTO articles (id, content) VALUES ('new', 'text')")
    fresh = another()
    theirs = fresh.claim()

    late = poller.settle_done(*tasks)

    assert ([t.id for t in tasks], [t.claim for t in tasks]) == ([t.id for t in theirs], [t.claim for t in theirs])
    assert (late.states, late.late) == ({}, 1)
    assert list(fresh.settle_done(*theirs).states.values()) == ["completed"]


def test_a_worker_without_a_living_row_claims_nothing(psql, add, poller):
    add("x")
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s'")
    assert poller.claim() == []

    psql("DELETE FROM embedding_workers")

    assert poller.claim() == []
    assert poller.claim_named(*[row[0] for row in psql("SELECT id FROM embedding_tasks")]) == []


def test_what_cannot_be_stored_fails_alone(psql, add, poller):
    add("x", "y")
    first, second = poller.claim()
    wrong = Stored(np.ones((1, 63), dtype=np.float32), (0,), (1,), (b"h",), 1)

    settled = poller.settle(Outcome(first, TaskStatus.COMPLETED, charged=True, stored=wrong), done(second))

    assert settled.states == {first.id: "failed", second.id: "completed"}


def test_a_task_whose_model_was_dropped_while_it_was_embedded_is_cancelled(psql, add, poller):
    add("x")
    (task,) = poller.claim()
    dropped = 999
    psql("UPDATE embedding_tasks SET model_id = %s", dropped)

    poller.settle_done(task._replace(model_id=dropped))

    assert psql("SELECT status, attempts, error_message FROM embedding_tasks") == [("cancelled", 0, "its model was dropped")]
