"""One budget for all processes, a share of it for the urgent, and a cap for the day."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from embedq.decide.budget import Here, Later, Rates
from embedq.model import Priority
from embedq.store.database import Database
from embedq.store.rate_limit import Budget


@pytest.fixture
def budget(store):
    return lambda requests=0, tokens=0: Budget(store.database, "hashing", Rates(requests, tokens))


def test_places_in_line_are_apart_by_the_rate(budget):
    bucket = budget(requests=60)

    places = [bucket.take(10, Priority.NORMAL, patience_s=10) for _ in range(4)]

    gaps = [later.wait_s - earlier.wait_s for earlier, later in pairwise(places)]
    assert places[0] == Here(0.0)
    assert gaps == pytest.approx([60 / 55.8] * 3, abs=0.2)


def test_a_place_that_is_too_far_off_is_not_taken(budget):
    bucket = budget(requests=60)
    bucket.take(1, Priority.NORMAL, patience_s=0)

    refused = [bucket.take(1, Priority.NORMAL, patience_s=0.5) for _ in range(5)]

    assert all(isinstance(place, Later) and place.wait_s < 1.2 for place in refused)


def test_the_urgent_have_a_share_that_others_cannot_use_up(budget):
    bucket = budget(requests=60)
    while isinstance(bucket.take(1, Priority.NORMAL, patience_s=0), Here):
        pass

    assert bucket.take(1, Priority.URGENT, patience_s=0) == Here(0.0)


def test_tokens_are_a_limit_of_their_own_and_a_large_request_is_paid_off_by_those_after_it(budget):
    bucket = budget(tokens=60_000)

    first = bucket.take(2_000, Priority.LOW, patience_s=0)
    second = bucket.take(50_000, Priority.LOW, patience_s=0)
    third = bucket.take(10, Priority.LOW, patience_s=0)

    assert first == Here(0.0)
    assert isinstance(second, Later)
    assert bucket.take(50_000, Priority.LOW, patience_s=10).wait_s > 0
    assert isinstance(third, Here)
    assert bucket.take(10, Priority.LOW, patience_s=1) == Later(pytest.approx(54, abs=4))


def test_many_at_once_are_given_different_places(database_url):
    databases = [Database(database_url) for _ in range(8)]

    def take(database):
        return [Budget(database, "hashing", Rates(600)).take(1, Priority.NORMAL, patience_s=60).wait_s for _ in range(10)]

    with ThreadPoolExecutor(8) as threads:
        waits = sorted(wait for found in threads.map(take, databases) for wait in found)

    for database in databases:
        database.close()
    burst = 6
    assert waits[-1] == pytest.approx((80 - burst) / 9.3, abs=1.0)
    assert len({round(wait, 2) for wait in waits[burst + 1 :]}) > 60


def test_what_cannot_wait_is_spent_and_the_others_wait_longer(budget):
    bucket = budget(requests=60)
    for _ in range(8):
        bucket.spend(1)

    assert bucket.take(1, Priority.URGENT, patience_s=1) == Later(pytest.approx(6, abs=1.5))
