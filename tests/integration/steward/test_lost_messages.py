"""The chore `lost messages`. On each broker: tests/contract/test_broker.py; what workers give back: tests/integration/test_giving_back.py."""

from __future__ import annotations

from contextlib import closing

import pytest

from embedq.broker import broker_at
from embedq.steward.dispatcher import Dispatcher
from embedq.steward.lost_messages import LOST_AFTER_S, LostMessages


@pytest.fixture
def broker(redis_url):
    with closing(broker_at(redis_url)) as made:
        yield made


@pytest.fixture
def dispatched(psql, add, store, broker, settings):
    """A task whose message is in the queue, since longer than a message takes to arrive."""
    add("a")
    assert Dispatcher(store, broker, settings).dispatch() == 1
    psql("UPDATE embedding_tasks SET dispatched_at = dispatched_at - make_interval(secs => %s)", LOST_AFTER_S + 1)
    return lambda: psql("SELECT dispatched_at IS NOT NULL FROM embedding_tasks") == [(True,)]


def test_a_task_whose_message_is_in_the_queue_stays_dispatched(store, broker, dispatched):
    LostMessages(store, broker).look()

    assert dispatched()


def test_a_task_whose_message_is_gone_is_freed_which_is_recorded(store, broker, dispatched, audit):
    broker.remove()

    LostMessages(store, broker).look()

    assert not dispatched()
    assert audit("broker")[-1][1].startswith("1 normal tasks had no message any more")


def test_a_mode_that_uses_no_broker_frees_all(psql, store, broker, dispatched, audit):
    psql("UPDATE embedding_worker_status SET mode = 'database'")

    LostMessages(store, broker).look()

    assert not dispatched()
    assert audit("broker")[-1][1] == "1 tasks went back to the table: the mode is database"
