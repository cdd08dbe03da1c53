"""The chore `reconcile`."""

from __future__ import annotations

from embedq.steward.reconcile import reconcile


def test_an_article_without_a_task_gets_one_which_is_recorded(psql, store, poller, audit):
    without_a_task(psql)

    reconcile(store)

    assert psql("SELECT article_id, status FROM embedding_tasks") == [("a", "pending")]
    assert audit("reconcile") == [("info", "1 stale articles without a task got one")]


def test_while_the_mode_makes_no_tasks_it_makes_none(psql, store, poller, audit):
    without_a_task(psql)
    psql("UPDATE embedding_worker_status SET mode = 'off'")

    reconcile(store)

    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]
    assert audit("reconcile") == []


def without_a_task(psql):
    psql("SET embedq.mode = 'off'")
    psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    psql("RESET embedq.mode")
