"""A writer whose transaction stays open holds up nobody, and is never the one that a deadlock with us ends."""

from __future__ import annotations

import threading
import time
from collections import Counter

import psycopg
import pytest

from embedq.decide.throttle import Throttle
from embedq.engine.engine import Engine
from embedq.engine.outcomes import waiting
from embedq.engine.runs import Report
from embedq.errors import NotWell
from embedq.model import Delivery, Model, Outcome, Priority, TaskStatus
from embedq.store import partitions
from embedq.store.backfills import Backfills
from embedq.store.repairs import Which
from embedq.threads import Lasting
from tests.support import until

from .conftest import done

# Far less than the transaction of a long writer, far more than the 200 ms that our own statements wait.
SOON_S = 8.0


@pytest.fixture
def writing(session):
    """A writer that has edited one article and does not commit."""

    def begin(article: str):
        opened = session()
        opened.do("UPDATE articles SET content = content || ' and more' WHERE id = %s", article)
        return opened

    return begin


def open_states(psql):
    return dict(psql("SELECT article_id, status FROM embedding_tasks WHERE status IN ('pending', 'processing')"))


def test_only_the_task_of_the_article_that_is_written_waits_to_be_rescued(psql, add, poller, writing):
    add(*(f"a{n:02}" for n in range(50)))
    poller.claim()
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s'")
    long = writing("a00")

    assert len(poller.store.tasks.rescue(300.0)) == 49
    long.commit()
    assert [row["status"] for row in poller.store.tasks.rescue(300.0)] == ["cancelled"]


def test_tasks_that_wait_again_do_not_wait_for_a_writer(psql, add, poller, writing):
    add("a", "b", "c")
    tasks = poller.claim()
    long = writing("a")

    began = time.monotonic()
    settled = poller.settle(*(waiting(task, 0.0, "the provider is away") for task in tasks))

    assert time.monotonic() - began < SOON_S
    assert sorted(settled.states.values()) == ["pending", "pending"]
    assert [outcome.task.article_id for outcome in settled.locked] == ["a"]
    long.commit()
    assert list(poller.settle(*settled.locked).states.values()) == ["cancelled"]


def test_a_settle_of_many_locked_tasks_does_not_wait_for_each(psql, add, poller, session):
    names = [f"a{n:02}" for n in range(40)]
    add(*names, tenant="acme")
    tasks = poller.claim()
    long = session()
    long.do("UPDATE articles SET tenant_id = 'zeta' WHERE id <> 'a00'")

    began = time.monotonic()
    settled = poller.settle_done(*tasks)

    assert time.monotonic() - began < SOON_S
    assert (len(settled.states), len(settled.locked), settled.late) == (1, 39, 0)
    long.commit()
    assert len(poller.settle(*settled.locked).states) == 39
    assert psql("SELECT DISTINCT tenant_id FROM embedding_vectors WHERE article_id <> 'a00'") == [("zeta",)]


def test_what_a_writer_held_when_it_was_settled_is_settled_with_a_later_heartbeat(psql, add, poller, session, store):
    class OfThisClaimer:
        """As much of a worker as a settle needs."""

        id, name, delivery = poller.id, "test", "poller"
        counters, stopping = Counter(), threading.Event()

        def lasting(self, name):
            return Lasting(name, self.stopping)

    engine = Engine(store, OfThisClaimer(), lambda model: None, None)
    add("x", tenant="acme")
    tasks = poller.claim()
    long = session()
    long.do("UPDATE articles SET tenant_id = 'zeta' WHERE id = 'x'")
    engine.settler.settle([done(task) for task in tasks], Report())
    engine.settler.settle_held_up()
    assert psql("SELECT status FROM embedding_tasks") == [("processing",)]
    long.commit()

    engine.settler.settle_held_up()

    assert psql("SELECT status FROM embedding_tasks") == [("completed",)]
    assert psql("SELECT tenant_id FROM embedding_vectors") == [("zeta",)]


@pytest.fixture
def dispatched(psql, add):
    """Ids of three tasks with the broker."""
    add("a", "b", "c")
    return [row[0] for row in psql("UPDATE embedding_tasks SET dispatched_at = clock_timestamp() RETURNING id")]


def test_giving_back_what_a_message_named_does_not_wait_for_a_writer(dispatched, store, writing, psql):
    writing("b")

    assert store.tasks.free(dispatched) == 2


def test_putting_off_what_a_throttle_left_does_not_wait_for_a_writer(dispatched, store, writing, psql):
    writing("b")

    assert store.throttles.put_off(dispatched, Throttle(rate=1.0)) == 2


@pytest.fixture
def stale(psql, add):
    """Three articles that were written while no tasks were made."""
    psql("UPDATE embedding_worker_status SET mode = 'off'")
    add("a", "m", "z")
    psql("UPDATE embedding_worker_status SET mode = 'database'")


def reconcile(store):
    return store.care.reconcile()["made"]


def backfill(store):
    state = {"backfill": "b", "state": "queuing", "queued": 0, "after": "", "tenant": None, "batch_size": 10, "priority": "low"}
    backfills: Backfills = store.backfills
    backfills.step(backfills.begin(state), state, store.models.active().id)
    return state["queued"]


def build(store):
    return store.models.build(store.models.active())


def want(store):
    return store.operate.want(["a", "m", "z"], "low", "test")


def reindex(store):
    return store.repairs.reindex(Which(), "low")


@pytest.mark.parametrize("act", [reconcile, backfill, build])
def test_making_tasks_passes_over_an_article_that_is_written(psql, stale, store, writing, act):
    long = writing("z")

    assert act(store) == 2
    long.commit()
    assert set(open_states(psql)) == {"a", "m", "z"}


WAITED_LONG = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query_start < clock_timestamp() - interval '1.5 s'"
)


@pytest.mark.parametrize("act", [reconcile, backfill, build, want, reindex])
def test_a_writer_in_another_order_than_by_id_is_never_ended_by_our_deadlock(psql, stale, store, session, in_thread, act):
    """It holds z. When we have waited for that for longer than deadlock_timeout, so that the writer would find the deadlock, it asks for a."""
    writer = session()
    writer.do("UPDATE articles SET content = 'two' WHERE id = 'z'")
    ours = in_thread(act, store)
    until(lambda: ours.done() or psql(WAITED_LONG))

    writer.do("UPDATE articles SET content = 'two' WHERE id = 'a'")
    writer.do("UPDATE articles SET content = 'two' WHERE id = 'm'")
    writer.commit()

    try:
        ours.result(20)
    except Exception as told:
        assert "being written" in str(told)
    assert psql("SELECT DISTINCT content FROM articles") == [("two",)]


def test_saves_do_not_wait_for_a_reconcile_of_many(psql, store, in_thread):
    psql("UPDATE embedding_worker_status SET mode = 'off'")
    psql("INSERT INTO articles (id, content) SELECT 'a' || lpad(n::text, 5, '0'), 'text' FROM generate_series(1, 12000) n")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    reconciling, edits = in_thread(store.care.reconcile), 0

    while not reconciling.done():
        edits += 1
        psql("UPDATE articles SET content = 'edited' WHERE id = 'a' || lpad(%s::text, 5, '0')", edits)

    assert reconciling.result()["made"] + edits >= 12000
    assert edits > 3, "a save waited for the whole reconcile"


@pytest.fixture
def reader(session):
    """pg_dump's first act: a lock on each table that nobody else's DDL may pass."""

    def begin():
        reading = session()
        reading.do("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        reading.do("LOCK TABLE embedding_vectors, article_texts, embedding_tasks, embeddings IN ACCESS SHARE MODE")
        return reading

    return begin


def test_a_model_is_added_beside_a_long_reader(store, reader, psql, add, poller):
    add("a")
    reader()

    model = store.models.add(Model("hashing", "other", 32))

    psql("UPDATE articles SET content = 'new'")
    assert sorted(psql("SELECT DISTINCT model_id FROM embedding_tasks WHERE status = 'pending'")) == [(1,), (model.id,)]


def test_a_model_is_added_beside_a_writer_of_vectors(store, session, psql, add, poller):
    add("a")
    poller.settle_done(*poller.claim())
    writing = session()
    writing.do("DELETE FROM articles")

    model = store.models.add(Model("hashing", "other", 32))

    writing.commit()
    assert psql(
        "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = %s::regclass", f"embedding_vectors_{model.id}"
    ) == [("embedding_vectors",)]


def test_a_model_that_a_long_reader_uses_is_not_dropped_and_holds_up_nobody(
    store, reader, psql, add, poller, in_thread, monkeypatch
):
    monkeypatch.setattr(partitions, "PATIENCE_S", 1.0)
    add("a", "b")
    poller.settle_done(*poller.claim())
    model = store.models.add(Model("hashing", "other", 32))
    reading = reader()

    dropping = in_thread(store.models.drop, model, who="test")
    while not dropping.done():
        psql("UPDATE articles SET content = content || '.' WHERE id = 'a'")
        psql("DELETE FROM articles WHERE id = 'b'")

    with pytest.raises(NotWell, match="pid") as refused:
        dropping.result()
    assert "run the same command again" in refused.value.hint
    reading.commit()
    store.models.drop(model, who="test")
    assert psql("SELECT to_regclass(%s)", f"embedding_vectors_{model.id}") == [(None,)]
    assert [row["id"] for row in store.models.all()] == [1]


def test_a_drop_that_was_interrupted_goes_on_where_it_was(store, psql, database_url):
    model = store.models.add(Model("hashing", "other", 32))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE embedding_vectors DETACH PARTITION embedding_vectors_{model.id} CONCURRENTLY")

    store.models.drop(model, who="test")

    assert psql("SELECT to_regclass(%s)", f"embedding_vectors_{model.id}") == [(None,)]


def test_failed_outcomes_are_settled_beside_a_writer_of_their_article(psql, add, poller, writing):
    add("a")
    (task,) = poller.claim()
    writing("a")

    settled = poller.settle(Outcome(task, TaskStatus.FAILED, charged=True, error_class="InputRefused", message="too long"))

    assert list(settled.states.values()) == ["failed"]


def test_a_steward_reconciles_beside_a_long_writer_and_what_it_made_is_claimed(psql, stale, store, writing):
    writing("m")

    assert store.care.reconcile_if_tasks_are_made() == 2
    assert len(store.tasks.claim_due(*_claimer(store), 10)) == 2


def _claimer(store):
    return store.workers.register("poller", "test", [], 300.0), Delivery.POLLER, tuple(Priority)
