"""The chore `maintenance`: windows begin and end by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from embedq.steward.calendar import Due
from embedq.steward.maintenance_window import current, keep_calendar, schedule

BEGINS = datetime(2030, 1, 1, 12, tzinfo=UTC)
LENGTH = timedelta(hours=1)


@pytest.fixture
def window(store, poller):
    """Announced, and to pause submissions."""
    return schedule(store, BEGINS, LENGTH, "new disks", "ann", pause_submissions=True)


def test_before_its_time_nothing_changes(store, window):
    assert keep_calendar(store, BEGINS - timedelta(seconds=1)) is Due.NOTHING
    assert current(store) == window


def test_at_its_time_it_begins_and_submissions_are_paused(psql, store, window, audit):
    assert keep_calendar(store, BEGINS) is Due.BEGIN

    assert current(store)["state"] == "running"
    assert psql("SELECT submissions_accepted FROM embedding_worker_status") == [(False,)]
    assert audit("maintenance")[-1][1] == "maintenance has begun: new disks"


def test_at_its_end_what_was_saved_meanwhile_gets_its_task(psql, store, window, audit):
    keep_calendar(store, BEGINS)
    psql("INSERT INTO articles (id, title) VALUES ('a', 'Tea')")
    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]

    assert keep_calendar(store, BEGINS + LENGTH) is Due.END

    assert current(store) is None
    assert psql("SELECT submissions_accepted FROM embedding_worker_status") == [(True,)]
    assert psql("SELECT article_id FROM embedding_tasks") == [("a",)]


def test_a_window_that_passed_while_no_steward_ran_begins_and_then_ends(store, window):
    late = BEGINS + LENGTH + LENGTH

    assert [keep_calendar(store, late) for _ in range(3)] == [Due.BEGIN, Due.END, Due.NOTHING]
