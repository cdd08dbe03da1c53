"""Of a backlog only as much goes to the broker as keeps its workers busy: messages call, and who is called fills the batch from the table."""

from __future__ import annotations

import pytest

from embedq.broker import broker_at
from embedq.broker.redis import task_ids
from embedq.endpoints import addresses
from embedq.model import Delivery, Priority
from embedq.settings import from_env
from embedq.steward.dispatcher import Dispatcher
from embedq.steward.wakeups import FEWEST_CALLS

BATCH = 10


@pytest.fixture
def its_settings(environment):
    return from_env(environment | {"EMBEDDING_BATCH_SIZE": str(BATCH)})


@pytest.fixture
def broker(its_settings):
    opened = broker_at(addresses(its_settings).broker_url)
    yield opened
    opened.close()


@pytest.fixture
def dispatcher(store, broker, its_settings, psql):
    psql("UPDATE embedding_worker_status SET mode = 'celery'")
    return Dispatcher(store, broker, its_settings, calling=True)


@pytest.fixture
def named(broker):
    """Takes what waits in the broker: the task ids of each message."""

    def take() -> list[list[int]]:
        found: list[list[int]] = []
        broker.drain(lambda queue, page: found.extend(list(task_ids(raw)) for raw in page))
        return found

    return take


def articles(psql, count, priority="normal"):
    psql("SELECT set_config('embedq.priority', %s, false)", priority)
    psql("INSERT INTO articles (id, title) SELECT %s || n, 'text ' || n FROM generate_series(1, %s) n", priority, count)


def test_what_is_no_backlog_goes_out_whole(psql, dispatcher, named):
    articles(psql, 4 * BATCH)

    sent = dispatcher.dispatch()

    assert sent == 4 * BATCH
    assert [len(ids) for ids in named()] == [BATCH] * 4


def test_of_a_backlog_each_message_names_one_task_and_the_table_keeps_the_rest(psql, dispatcher, named):
    articles(psql, 400)

    sent = dispatcher.dispatch()

    assert sent == FEWEST_CALLS
    assert [len(ids) for ids in named()] == [1] * FEWEST_CALLS
    assert psql("SELECT count(*) FROM embedding_tasks WHERE dispatched_at IS NULL") == [(400 - FEWEST_CALLS,)]


def test_what_is_urgent_is_named_task_by_task_however_much_it_is(psql, dispatcher, named):
    articles(psql, 100, "urgent")

    sent = dispatcher.dispatch()

    assert sent == 100
    assert sorted(task for ids in named() for task in ids) == [
        task for (task,) in psql("SELECT id FROM embedding_tasks ORDER BY 1")
    ]


def test_while_the_calls_are_not_answered_no_more_are_sent(psql, dispatcher):
    articles(psql, 400)
    dispatcher.dispatch()

    assert dispatcher.dispatch() == 0


def test_who_answers_quickly_is_called_more_often(psql, dispatcher, named):
    articles(psql, 400)
    dispatcher.dispatch()
    named()

    assert dispatcher.dispatch() == 4 * FEWEST_CALLS


def test_the_bound_of_the_broker_holds_for_calls_too(store, broker, environment, psql):
    psql("UPDATE embedding_worker_status SET mode = 'celery'")
    small = from_env(
        environment | {"EMBEDDING_BATCH_SIZE": "10", "EMBEDDING_QUEUE_MAX_DEPTH": "5", "EMBEDDING_TENANT_MAX_PENDING": "5"}
    )
    articles(psql, 400)

    assert Dispatcher(store, broker, small, calling=True).dispatch() == 5


def test_who_is_called_fills_the_batch_with_what_is_free(psql, another, dispatcher):
    articles(psql, 400)
    dispatcher.dispatch()
    ((first,),) = psql("SELECT min(id) FROM embedding_tasks WHERE dispatched_at IS NOT NULL")

    claimed = another(Delivery.CELERY).claim_named(first)

    assert len(claimed) == 100
    assert claimed[0].id == first
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'processing' AND dispatched_at IS NOT NULL") == [(1,)]


def test_while_dispatch_is_held_a_message_fills_its_batch_with_nothing_that_is_free(psql, another, dispatcher):
    articles(psql, 400)
    dispatcher.dispatch()
    with_broker = [task for (task,) in psql("SELECT id FROM embedding_tasks WHERE dispatched_at IS NOT NULL ORDER BY id")]
    psql("UPDATE embedding_worker_status SET dispatch_held = true")

    claimed = another(Delivery.CELERY).claim_named(with_broker[0])

    assert sorted(task.id for task in claimed) == with_broker


def test_where_nothing_is_free_it_is_filled_with_what_other_messages_name(psql, another, dispatcher):
    articles(psql, 4 * BATCH)
    dispatcher.dispatch()
    first, last = psql("SELECT min(id), max(id) FROM embedding_tasks")[0]

    claimed = another(Delivery.CELERY).claim_named(first)

    assert len(claimed) == len({task.id for task in claimed}) == 4 * BATCH
    assert another(Delivery.CELERY).claim_named(last) == []


def test_a_batch_is_filled_with_its_own_priority_alone(psql, another):
    psql("UPDATE embedding_worker_status SET mode = 'celery'")
    articles(psql, 3, "high")
    articles(psql, 3, "normal")
    ((first,),) = psql("SELECT min(id) FROM embedding_tasks WHERE priority = 'high'")

    claimed = another(Delivery.CELERY).claim_named(first)

    assert [task.priority for task in claimed] == [Priority.HIGH] * 3


def test_what_is_urgent_goes_as_it_is(psql, another):
    psql("UPDATE embedding_worker_status SET mode = 'celery'")
    articles(psql, 3, "urgent")
    ((first,),) = psql("SELECT min(id) FROM embedding_tasks")

    assert [task.id for task in another(Delivery.CELERY).claim_named(first)] == [first]
