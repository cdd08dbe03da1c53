"""Where a claim of a backlog begins."""

from __future__ import annotations

import pytest

from embedq.model import Priority
from embedq.store.claim_cursor import SWEEP_S, Trail


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def trail(clock):
    return Trail(clock)


def picked(*tasks):
    return [{"tenant_id": tenant, "scheduled_at": due, "id": id} for tenant, due, id in tasks]


TWO_TENANTS = picked(("a", 1, 10), ("a", 2, 11), ("b", 1, 20))


def test_the_first_claim_begins_at_the_first_task(trail):
    assert trail.of(Priority.NORMAL) is None


def test_a_claim_begins_where_the_one_before_ended_for_each_tenant(trail):
    trail.swept(Priority.NORMAL, TWO_TENANTS, full=True, lanes=2)
    trail.followed(Priority.NORMAL, picked(("a", 3, 12)), full=True)

    assert trail.of(Priority.NORMAL) == {"a": (3, 12), "b": (1, 20)}
    assert trail.of(Priority.LOW) is None


def test_once_in_a_while_a_claim_begins_at_the_first_task_again(trail, clock):
    trail.swept(Priority.NORMAL, TWO_TENANTS, full=True, lanes=2)
    clock.now += SWEEP_S / 2
    trail.followed(Priority.NORMAL, picked(("a", 3, 12)), full=True)
    clock.now += SWEEP_S / 2

    assert trail.of(Priority.NORMAL) is None


@pytest.mark.parametrize(
    ("priority", "full", "lanes"),
    [
        pytest.param(Priority.URGENT, True, 2, id="urgent"),
        pytest.param(Priority.NORMAL, False, 2, id="no backlog"),
        pytest.param(Priority.NORMAL, True, 3, id="a tenant had no part"),
    ],
)
def test_when_a_claim_always_begins_at_the_first_task(trail, priority, full, lanes):
    trail.swept(priority, TWO_TENANTS, full=full, lanes=lanes)

    assert trail.of(priority) is None


def test_the_end_of_a_backlog_ends_the_trail(trail):
    trail.swept(Priority.NORMAL, TWO_TENANTS, full=True, lanes=2)
    trail.followed(Priority.NORMAL, [], full=False)

    assert trail.of(Priority.NORMAL) is None
