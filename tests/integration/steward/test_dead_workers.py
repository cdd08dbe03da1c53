"""The chore `dead workers`."""

from __future__ import annotations

from embedq.steward.dead_workers import DEAD_AFTER_S, forget_dead_workers


def test_a_worker_that_has_been_dead_for_a_minute_leaves_the_register_and_is_recorded(psql, store, poller, audit):
    psql("UPDATE embedding_workers SET alive_until = now() - make_interval(secs => %s)", DEAD_AFTER_S + 1)

    forget_dead_workers(store)

    assert psql("SELECT count(*) FROM embedding_workers") == [(0,)]
    assert audit("worker") == [("warning", "worker test poller is gone")]


def test_a_worker_that_died_just_now_and_one_that_holds_a_task_stay(psql, add, store, poller, another, audit):
    add("a")
    poller.claim()
    psql("UPDATE embedding_workers SET alive_until = now() - make_interval(secs => %s)", DEAD_AFTER_S + 1)
    late = another()
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s' WHERE id = %s", late.id)

    forget_dead_workers(store)

    assert psql("SELECT id FROM embedding_workers ORDER BY id") == [(poller.id,), (late.id,)]
    assert audit("worker") == []
