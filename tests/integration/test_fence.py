"""The mode is a fence (G5): a switch waits for claims under way, and no claim of a switched-off delivery comes after it."""

from __future__ import annotations

import pytest

from embedq.decide.modes import deliveries
from embedq.model import Delivery, Mode, Priority
from embedq.store.queries import QUERIES
from tests.support import until

BY_HAND = [
    "UPDATE embedding_worker_status SET is_running = false WHERE id = 1",
    "INSERT INTO embedding_worker_status (id, is_running) VALUES (1, false) ON CONFLICT (id) DO UPDATE SET is_running = false",
    "UPDATE embedding_worker_status SET is_running = false",
    "DELETE FROM embedding_worker_status",
    "TRUNCATE embedding_worker_status",
]


def half_a_claim(session, delivery=Delivery.POLLER):
    """A claim that has passed the fence and has not committed."""
    claim = session()
    claim.do(QUERIES.fence)
    rows = claim.do("SELECT id FROM embedding_tasks WHERE status = 'pending' FOR UPDATE SKIP LOCKED")
    return claim, [row[0] for row in rows]


@pytest.mark.parametrize("statement", BY_HAND)
def test_a_stop_by_hand_waits_for_the_claim_under_way_and_lets_no_later_one_through(psql, add, poller, session, statement):
    add("a", "b")
    claim, (first, *_) = half_a_claim(session)
    operator = session()
    stopping = operator.begin(statement)
    operator.until_it_waits()

    claim.do(
        "UPDATE embedding_tasks SET status = 'processing', lease_holder = %s, claims = claims + 1 WHERE id = %s",
        poller.id,
        first,
    )
    claim.commit()
    stopping.result(10)
    operator.commit()

    assert poller.claim() == []
    assert psql("SELECT status, count(*) FROM embedding_tasks GROUP BY 1 ORDER BY 1") == [("pending", 1), ("processing", 1)]


def test_a_claim_that_began_while_a_stop_was_uncommitted_waits_and_claims_nothing(add, poller, session, in_thread, lock_waits):
    add("a")
    operator = session()
    operator.do(BY_HAND[0])
    claiming = in_thread(poller.claim)

    until(lock_waits, why="the claim did not wait for the switch")

    operator.commit()

    assert claiming.result(10) == []


def test_a_stop_that_is_rolled_back_stops_nobody(add, poller, session):
    add("a")
    operator = session()
    operator.do(BY_HAND[0])
    operator.connection.rollback()

    assert len(poller.claim()) == 1


@pytest.mark.parametrize(
    ("before", "after", "off"),
    [
        pytest.param(Mode.DATABASE, Mode.CELERY, Delivery.POLLER, id="from the poller to Celery"),
        pytest.param(Mode.CELERY, Mode.DATABASE, Delivery.CELERY, id="from Celery to the poller"),
        pytest.param(Mode.HYBRID, Mode.CELERY, Delivery.POLLER, id="from both to Celery"),
        pytest.param(Mode.HYBRID, Mode.DATABASE, Delivery.CELERY, id="from both to the poller"),
        pytest.param(Mode.CELERY, Mode.OFF, Delivery.CELERY, id="from Celery to nobody"),
    ],
)
def test_a_switch_returns_only_when_the_old_delivery_cannot_claim_any_more(
    psql, add, store, another, session, in_thread, lock_waits, before, after, off
):

    add("a", "b")
    store.status.set_mode(before, "test", "test")
    claim, _ = half_a_claim(session)

    switching = in_thread(store.status.set_mode, after, "test", "test")
    until(lock_waits, why="the switch did not wait for the claim")
    assert not switching.done()
    claim.commit()
    switching.result(10)

    ids = [row[0] for row in psql("SELECT id FROM embedding_tasks")]
    old, new = another(off), another(Delivery.CELERY if off is Delivery.POLLER else Delivery.POLLER)
    assert (old.claim(), old.claim_named(*ids), old.store.tasks.claim_overdue(old.id, 10, 0.0)) == ([], [], [])
    if after is not Mode.OFF:
        assert len(new.claim()) == 2


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("delivery", list(Delivery))
def test_each_delivery_claims_in_its_modes_and_in_no_other(psql, add, store, another, mode, delivery):
    add("a")
    store.status.set_mode(mode, "test", "test")

    assert bool(another(delivery).claim()) == (delivery in deliveries(mode))


def test_nothing_is_marked_as_dispatched_in_a_mode_without_celery_or_while_dispatch_is_held(psql, add, store):

    add("a")
    dispatched = {}
    for setting in ("mode = 'database'", "mode = 'off'", "mode = 'celery', dispatch_held = true", "dispatch_held = false"):
        psql(f"UPDATE embedding_worker_status SET {setting}")
        dispatched[setting] = len(store.tasks.dispatch(Priority.NORMAL, 10))

    assert list(dispatched.values()) == [0, 0, 0, 1]


def test_who_changed_the_row_and_why_is_on_it(psql, store):
    store.status.set_mode(Mode.DATABASE, "the broker is ill", "ann")
    by_command = psql("SELECT changed_by, reason FROM embedding_worker_status")

    psql("UPDATE embedding_worker_status SET is_running = false")

    assert by_command == [("ann", "the broker is ill")]
    assert psql("SELECT changed_by = session_user, reason FROM embedding_worker_status") == [(True, "changed by hand")]
