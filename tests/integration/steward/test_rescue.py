"""The chore `rescue`. What the statement takes back is in tests/integration/test_rescue.py."""

from __future__ import annotations

from embedq.steward.rescue import rescue


def test_tasks_of_a_dead_worker_are_pending_and_counted_and_recorded(psql, add, store, worker, settings, poller, audit):
    add("a", "b")
    poller.claim()
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s'")

    rescue(store, worker, settings)

    assert psql("SELECT status, count(*) FROM embedding_tasks GROUP BY status") == [("pending", 2)]
    assert worker.counters["rescued"] == 2
    assert audit("rescue") == [("warning", "2 tasks were taken back from workers that died or hung")]


def test_a_worker_that_holds_a_task_longer_than_the_setting_allows_loses_it(psql, add, store, worker, settings, poller):
    add("a")
    poller.claim()
    psql("UPDATE embedding_tasks SET processed_at = now() - make_interval(secs => %s)", settings.worker_timeout_s + 1)

    rescue(store, worker, settings)

    assert psql("SELECT status FROM embedding_tasks") == [("pending",)]


def test_without_a_dead_worker_nothing_is_recorded(psql, add, store, worker, settings, poller, audit):
    add("a")
    poller.claim()

    rescue(store, worker, settings)

    assert psql("SELECT status FROM embedding_tasks") == [("processing",)]
    assert (worker.counters["rescued"], audit("rescue")) == (0, [])
