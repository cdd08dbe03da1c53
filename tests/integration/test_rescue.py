"""Tasks come back from workers that died or hung; nobody is charged, and a task that kills its workers ends."""

from __future__ import annotations

import threading

import pytest

from embedq.engine.worker import Worker
from embedq.store.tasks import MAX_LOSSES
from tests.support import until

TIMEOUT_S = 300.0


def die(psql):
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 s'")


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        pytest.param("UPDATE embedding_workers SET alive_until = now() - interval '1 s'", "died", id="its lease ran out"),
        pytest.param("DELETE FROM embedding_workers", "died", id="it left the register"),
        pytest.param("UPDATE embedding_tasks SET processed_at = now() - interval '301 s'", "held it longer", id="it hangs"),
        pytest.param("UPDATE embedding_tasks SET processed_at = NULL", "", id="an operator says it is stuck"),
    ],
)
def test_a_task_comes_back_from_a_worker_when(psql, add, poller, another, how, cause):
    add("a")
    poller.claim()

    psql(how)
    rescued = poller.store.tasks.rescue(TIMEOUT_S)

    assert [row["status"] for row in rescued] == ["pending"]
    ((attempts, losses, kind, message),) = psql("SELECT attempts, lost_leases, error_class, error_message FROM embedding_tasks")
    assert (attempts, losses, kind) == (0, 1, "WorkerLost")
    assert cause in message
    assert len(another().claim()) == 1


def test_a_task_of_a_worker_that_lives_and_works_is_left_alone(psql, add, poller):
    add("a")
    poller.claim()

    assert poller.store.tasks.rescue(TIMEOUT_S) == []
    assert psql("SELECT status FROM embedding_tasks") == [("processing",)]


def test_a_task_that_is_lost_too_often_fails_with_every_loss_on_record(psql, add, another, poller):
    add("a")
    for _ in range(MAX_LOSSES):
        another().claim()
        die(psql)
        poller.store.tasks.rescue(TIMEOUT_S)

    ((status, attempts, errors),) = psql("SELECT status, attempts, jsonb_array_length(errors) FROM embedding_tasks")
    assert (status, attempts, errors) == ("failed", 0, MAX_LOSSES)
    assert psql("SELECT embedding_status FROM articles") == [("failed",)]


def test_a_rescued_task_gives_way_to_its_successor(psql, add, poller):
    add("a")
    poller.claim()
    psql("UPDATE articles SET content = 'new'")
    die(psql)

    poller.store.tasks.rescue(TIMEOUT_S)

    assert psql("SELECT status, version FROM embedding_tasks ORDER BY id") == [("cancelled", 1), ("pending", 2)]


def test_a_success_forgets_the_losses(psql, add, poller, another):
    add("a")
    another().claim()
    die(psql)
    poller.store.tasks.rescue(TIMEOUT_S)

    survivor = another()
    survivor.settle_done(*survivor.claim())

    assert psql("SELECT status, lost_leases FROM embedding_tasks") == [("completed", 0)]


def test_dead_workers_are_buried_only_when_they_hold_nothing(psql, add, poller, another):
    add("a")
    poller.claim()
    another()
    psql("UPDATE embedding_workers SET alive_until = now() - interval '2 minutes'")

    buried = [row["id"] for row in poller.store.workers.bury(60.0)]

    assert psql("SELECT id FROM embedding_workers") == [(poller.id,)]
    assert len(buried) == 1


def test_a_worker_that_was_declared_dead_registers_anew_and_its_old_claims_stay_lost(psql, add, store):
    add("a")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    worker = Worker(store, "poller")
    worker.start()
    first = worker.id

    psql("DELETE FROM embedding_workers")
    until(lambda: worker.id != first, why="it never registered anew")

    assert psql("SELECT id, alive_until > now() FROM embedding_workers") == [(worker.id, True)]
    worker.stop()
    assert psql("SELECT count(*) FROM embedding_workers") == [(0,)]


def test_writers_are_told_of_a_sleeper_for_as_long_as_it_sleeps(psql, store):
    worker = Worker(store, "poller")
    worker.start()
    psql("UPDATE embedding_workers SET asleep_until = now() - interval '1 minute'")
    sleeping = threading.Thread(target=worker.sleep, args=(worker.rings, 30.0))
    sleeping.start()
    until(lambda: worker._sleepers, 5)

    worker.beat()

    assert psql("SELECT asleep_until > now() + interval '1 s' FROM embedding_workers") == [(True,)]
    worker.ring()
    sleeping.join(5)
    psql("UPDATE embedding_workers SET asleep_until = now() - interval '1 minute'")
    worker.beat()
    assert psql("SELECT asleep_until > clock_timestamp() FROM embedding_workers") == [(False,)]
    worker.stop()
