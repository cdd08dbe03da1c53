"""The chore `clean up`."""

from __future__ import annotations

import pytest

from embedq.steward.clean_up import clean_up


@pytest.fixture
def finished(psql, add, poller, settings):
    """A completed task, older than the retention."""
    add("a")
    poller.settle_done(*poller.claim())
    psql("UPDATE embedding_tasks SET completed_at = now() - make_interval(days => %s)", settings.cleanup_retention_days + 1)


def test_finished_tasks_are_deleted_after_their_retention_and_recorded(psql, store, settings, finished, audit):
    clean_up(store, settings)

    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]
    ((level, message),) = audit("cleanup")
    assert (level, "old rows were removed" in message) == ("info", True)


def test_within_the_interval_of_another_clean_up_nothing_is_deleted(psql, store, settings, finished, audit):
    store.audit.write("cleanup", "by a command")

    clean_up(store, settings)

    assert psql("SELECT count(*) FROM embedding_tasks") == [(1,)]
    assert len(audit("cleanup")) == 1


def test_after_the_interval_it_is_done_again(psql, store, settings, finished):
    store.audit.write("cleanup", "by a command")
    psql(
        "UPDATE embedding_audit_logs SET timestamp = now() - make_interval(hours => %s) WHERE category = 'cleanup'",
        settings.cleanup_interval_h + 1,
    )

    clean_up(store, settings)

    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]
