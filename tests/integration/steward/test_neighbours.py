"""The chore `neighbours`: other installations on the same broker. With processes: tests/contract/test_two_installations.py."""

from __future__ import annotations

from contextlib import closing

import pytest

from embedq.broker import broker_at
from embedq.steward.neighbours import Neighbours


@pytest.fixture
def broker(redis_url):
    with closing(broker_at(redis_url)) as made:
        yield made


def test_another_installation_on_the_broker_is_recorded_once(store, broker, audit):
    broker.announce("another", "articles of another application")
    neighbours = Neighbours(store, broker)

    neighbours.look()
    neighbours.look()

    ((level, message),) = audit("broker")
    assert (level, "articles of another application" in message) == ("warning", True)


def test_alone_on_the_broker_nothing_is_recorded(store, broker, audit):
    Neighbours(store, broker).look()

    assert audit("broker") == []


def test_a_mode_that_uses_no_broker_does_not_look(psql, store, broker, audit):
    broker.announce("another", "articles of another application")
    psql("UPDATE embedding_worker_status SET mode = 'database'")

    Neighbours(store, broker).look()

    assert audit("broker") == []
