"""The chore `sample`, and the samples of the index's recall."""

from __future__ import annotations

from embedq.steward.sample import sample, sample_recall


def test_a_sample_has_the_depth_and_what_was_settled_lately(psql, add, store, poller):
    add("a", "b", "c")
    poller.settle_done(*poller.claim(1))

    sample(store)

    assert psql("SELECT metric, labels->>'status', value::int FROM performance_metrics ORDER BY metric") == [
        ("depth", "pending", 2),
        ("settled", "completed", 1),
    ]


def test_what_was_settled_before_the_last_sample_is_not_counted_again(psql, add, store, poller):
    add("a")
    poller.settle_done(*poller.claim())
    psql("UPDATE embedding_tasks SET completed_at = now() - interval '11 s'")

    sample(store)

    assert psql("SELECT count(*) FROM performance_metrics") == [(0,)]


def test_without_an_index_there_is_no_recall_to_sample(psql, add, store, poller):
    add("a")
    poller.settle_done(*poller.claim())

    sample_recall(store)

    assert psql("SELECT count(*) FROM performance_metrics WHERE metric LIKE '%%recall%%'") == [(0,)]
