"""Rows that do not fit their article: verify finds each kind, and the command that it names mends it."""

from __future__ import annotations

import psycopg
import pytest

from embedq.model import Model

from .conftest import done

KINDS = {
    "orphan": "DELETE FROM article_texts WHERE id = 'x'",
    "unvouched": "DELETE FROM embeddings WHERE article_id = 'x'",
    "incomplete": "DELETE FROM embedding_vectors WHERE article_id = 'x'",
    "incomplete, one chunk too many": "UPDATE embeddings SET chunks = 2 WHERE article_id = 'x'",
    "tenant": "UPDATE article_texts SET tenant_id = 'zeta' WHERE id = 'x'",
    "ahead": "UPDATE embeddings SET version = 7 WHERE article_id = 'x'",
    "renumbered": "UPDATE article_texts SET version = 1 WHERE id = 'y'",
    "orphan, vectors alone": "DELETE FROM article_texts WHERE id = 'x'; DELETE FROM embeddings WHERE article_id = 'x'",
}


@pytest.fixture
def embedded(psql, add, poller):
    """x, and y which was edited once; both embedded."""
    add("x", "y", tenant="acme")
    poller.settle_done(*poller.claim())
    psql("UPDATE articles SET content = 'edited' WHERE id = 'y'")
    poller.settle_done(*poller.claim())


@pytest.mark.parametrize("kind", KINDS)
def test_verify_finds_it_and_reconcile_mends_it(embedded, without_triggers, store, poller, psql, kind):
    assert store.care.verify()["problems"] == []
    without_triggers(KINDS[kind])

    found = store.care.verify()
    assert found[kind.split(",")[0]] == 1
    assert [problem for problem in found["problems"] if "`embedq reconcile`" not in problem] == []
    store.care.reconcile()
    poller.settle_done(*poller.claim())

    assert store.care.verify()["problems"] == []
    assert psql(
        "SELECT count(*) FROM article_texts a JOIN embeddings e ON e.article_id = a.id AND e.text_hash = a.text_hash"
        " JOIN embedding_vectors v ON v.article_id = a.id AND v.tenant_id = a.tenant_id"
    ) == psql("SELECT count(*) FROM article_texts")


def test_a_dry_run_says_how_many_and_changes_nothing(embedded, without_triggers, store):
    without_triggers(KINDS["tenant"])

    assert store.care.reconcile(dry_run=True)["mended"] == 1

    assert store.care.verify()["tenant"] == 1


def test_what_a_transaction_is_writing_is_left_for_the_next_time(embedded, without_triggers, store, session):
    without_triggers(KINDS["tenant"])
    writing = session()
    writing.do("UPDATE articles SET metadata = '{}' WHERE id = 'x'")

    assert store.care.reconcile()["mended"] == 0
    writing.commit()
    assert store.care.reconcile()["mended"] == 1


@pytest.mark.parametrize(
    "act", ["DELETE FROM articles WHERE id = 'x'", "UPDATE articles SET tenant_id = 'zeta' WHERE id = 'x'"]
)
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_writer_whose_snapshot_is_older_than_a_model_s_vectors_leaves_nothing_behind(
    embedded, store, poller, database_url, psql, act, level
):
    model = store.models.add(Model("hashing", "other", 32))
    with psycopg.connect(database_url) as writer:
        writer.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        writer.execute("SELECT count(*) FROM articles")
        store.models.build(model)
        poller.settle(*(done(task, dimensions=32) for task in poller.claim()))
        writer.execute(act)
        writer.commit()

    assert store.care.verify()["problems"] != []
    store.care.reconcile()

    assert store.care.verify()["problems"] == []
    assert psql(
        "SELECT count(*) FROM embedding_vectors v LEFT JOIN article_texts a ON a.id = v.article_id AND a.tenant_id = v.tenant_id"
        " WHERE a.id IS NULL"
    ) == [(0,)]


def test_the_steward_looks_at_all_stretches_in_turn(embedded, without_triggers, store, monkeypatch):
    from embedq.store import reconcile

    monkeypatch.setattr(reconcile, "STEP", 1)
    psycopg_rows = [f"INSERT INTO articles (id, content) VALUES ('n{number}', 'text')" for number in range(6)]
    for statement in psycopg_rows:
        store.database.execute(statement)
    without_triggers("UPDATE article_texts SET tenant_id = 'zeta' WHERE id = 'y'")

    mended = [store.care.reconcile(share=3)["mended"] for _ in range(3)]

    assert sum(mended) == 1


# Texts of deleted articles ---------------------------------------------------------------------------------------------------------------


def history(psql, article):
    return psql("SELECT version_number, content FROM article_versions WHERE article_id = %s ORDER BY 1", article)


def make_old(psql, days):
    psql("UPDATE article_versions SET superseded_at = now() - make_interval(days => %s)", days)


def test_all_texts_of_an_article_go_when_its_deletion_is_old_enough(psql, store, add):
    add("x", text="secret one")
    for text in ("secret two", "secret three"):
        psql("UPDATE articles SET content = %s", text)
    psql("DELETE FROM articles")
    make_old(psql, 31)

    assert (store.care.would_clean_up(30)["versions"], store.care.clean_up(30)["versions"]) == (3, 3)

    assert history(psql, "x") == [(3, "")]
    assert store.articles.versions("x") == []
    assert store.care.clean_up(30)["versions"] == 0


def test_no_number_is_given_twice_after_the_texts_are_gone(psql, store, add):
    add("x", text="one")
    psql("UPDATE articles SET content = 'two'")
    psql("DELETE FROM articles")
    make_old(psql, 31)
    store.care.clean_up(30)

    add("x", text="another")

    assert psql("SELECT version FROM articles") == [(3,)]


def test_texts_stay_while_the_deletion_is_young(psql, store, add):
    add("x", text="one")
    psql("UPDATE articles SET content = 'two'")
    make_old(psql, 90)
    psql("DELETE FROM articles")

    assert store.care.clean_up(30)["versions"] == 0

    assert history(psql, "x") == [(1, "one"), (2, "two")]


def test_an_article_that_exists_keeps_its_whole_history(psql, store, add):
    add("x", text="one")
    psql("UPDATE articles SET content = 'two'")
    psql("DELETE FROM articles")
    add("x", text="three")
    psql("UPDATE articles SET content = 'four'")
    make_old(psql, 90)

    assert store.care.clean_up(30)["versions"] == 0

    assert history(psql, "x") == [(1, "one"), (2, "two"), (3, "three")]
