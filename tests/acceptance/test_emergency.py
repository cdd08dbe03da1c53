"""The broker breaks under load: dead, frozen, full, emptied; commands killed at every step; late results."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from embedq.model import Delivery, Mode
from embedq.operations.rollback.procedures import EMERGENCY
from embedq.store import Store
from tests.rabbitmq import Link
from tests.redisprocess import OwnRedis
from tests.standin import StandIn

from .conftest import RABBITMQ, REDIS
from .incidents import GARBAGE, all_is_well, dispatch, done_by, fill, garbage, killed_at, put, write
from .underload import Writer, embedq, facts, fleet, wait_until


def on_rabbitmq(what: str) -> Any:
    return pytest.param(what, "rabbitmq", marks=pytest.mark.rabbitmq)


def broke(how: str, server: OwnRedis | Link, store: Store) -> None:
    match how:
        case "dead":
            server.kill()
        case "frozen":
            server.freeze()
        case "full":
            assert isinstance(server, OwnRedis)
            tasks = [
                row["id"] for row in store.database.fetch("SELECT id FROM embedding_tasks WHERE status = 'pending' LIMIT 3000")
            ]
            fill(server.client, tasks, 100_000)


@pytest.mark.parametrize(
    ("how", "broken"), [("dead", REDIS), ("frozen", REDIS), ("full", REDIS), on_rabbitmq("frozen")], indirect=["broken"]
)
def test_emergency_goes_on_from_the_table_whatever_the_broker_is(
    how: str, deployment: dict[str, str], broken: OwnRedis | Link, store: Store, standin: StandIn, tmp_path: Path
) -> None:
    writer = Writer(deployment, at_least=0)
    writer.fill(1500)
    with fleet(deployment, tmp_path, store, celery=2, pollers=2) as workers, writer:
        wait_until(lambda: facts(store)["stored"] > 20, 20, "Celery at work")
        if how == "full":
            # Celery hangs, so that its queues fill; a worker that ran would eat some of the garbage and die of it.
            workers.signal("celery", signal.SIGSTOP)
        broke(how, broken, store)

        ran = embedq(deployment, "rollback", "emergency", "--reason", f"the broker is {how}", "--json")

        assert ran.exit_code == 0, ran.err
        assert store.switches.in_flight([Delivery.CELERY]) == 0
        workers.signal("celery", signal.SIGCONT)
        writer.__exit__()
        standin.control(latency_ms=0)
        all_is_well(deployment, store, writer)
        if how == "frozen":
            # Nothing waits for it any more but workers that are asked to stop.
            broken.thaw()

    print(
        f"{how}: procedure {ran.json['seconds']} s, command {ran.seconds:.1f} s,",
        [(s["step"], s["seconds"]) for s in ran.json["steps"]],
    )
    assert store.rejected.count() == (GARBAGE if how == "full" else 0)
    assert standin.stats()["paid_twice"] <= 2 * 2 * 20
    skipped = {step["step"] for step in ran.json["steps"] if step["state"] == "skipped"}
    assert skipped == (set() if how == "full" else {"back-up-broker", "drain"})


@pytest.mark.parametrize(
    ("step", "plain"),
    [*((step.name, REDIS) for step in EMERGENCY.steps), on_rabbitmq("back-up-broker"), on_rabbitmq("drain")],
    indirect=["plain"],
)
def test_an_emergency_killed_at_a_step_is_taken_up_and_ends_the_same(step: str, plain: dict[str, str], store: Store) -> None:
    write(plain, 300)
    broker = dispatch(plain, store)
    for number in range(3):
        put(broker, "high", garbage(number))

    killed_at(plain, step)
    for _ in range(5):
        if store.procedures.unfinished() is None:  # the last step had ended already when the signal came
            killed_at(plain, step)
    again = embedq(plain, "rollback", "emergency", "--reason", "a test", "--json")

    assert again.exit_code == 0, again.err
    assert again.json["resumed"]
    assert [each["step"] for each in again.json["steps"]] == [each.name for each in EMERGENCY.steps]
    live = store.status.live()
    assert (live.mode, live.maintenance, live.submissions_accepted) == ("database", None, True)
    assert store.switches.counts() == {"free": 300, "with_broker": 0, "held_by_celery": 0, "held_by_poller": 0}
    assert store.rejected.count() == 3
    assert sum(queue.waiting for queue in broker.look().values()) == 0
    assert store.procedures.unfinished() is None


def test_a_procedure_that_did_not_end_can_be_undone_instead(plain: dict[str, str], store: Store) -> None:
    write(plain, 50)
    killed_at(plain, "drain")

    refused = embedq(plain, "rollback", "planned", "--reason", "another one")
    undone = embedq(plain, "rollback", "undo", "--reason", "it was a false alarm")

    assert (refused.exit_code, "did not end" in refused.err) == (3, True)
    assert undone.exit_code == 0, undone.err
    live = store.status.live()
    assert (live.mode, live.maintenance, live.dispatch_held) == ("celery", None, False)
    assert store.procedures.unfinished() is None
    assert embedq(plain, "rollback", "undo", "--reason", "once more").exit_code == 1


@pytest.mark.parametrize("broken", [REDIS, RABBITMQ], indirect=True)
def test_the_broker_loses_everything_in_celery_mode_and_all_work_is_done_without_an_operator(
    deployment: dict[str, str], broken: OwnRedis | Link, store: Store, standin: StandIn, tmp_path: Path
) -> None:
    writer = Writer(deployment, at_least=0)
    with fleet(deployment, tmp_path, store, celery=1, pollers=0), writer:
        with standin.held():
            writer.fill(400)
            wait_until(lambda: store.switches.counts()["with_broker"] > 100, 20, "messages in the broker")
            broken.wipe()
        writer.__exit__()
        all_is_well(deployment, store, writer)


@pytest.mark.parametrize("broken", [REDIS, RABBITMQ], indirect=True)
def test_hybrid_goes_on_when_the_broker_dies_and_celery_takes_over_when_it_returns(
    deployment: dict[str, str], broken: OwnRedis | Link, store: Store, standin: StandIn, tmp_path: Path
) -> None:
    writer = Writer(deployment, at_least=100)
    store.status.set_mode(Mode.HYBRID, "test", "test")
    with fleet(deployment, tmp_path, store, celery=1, pollers=1), writer:
        wait_until(lambda: done_by(store, Delivery.CELERY) > 50, 60, "Celery at work")
        broken.kill()
        before = done_by(store, Delivery.POLLER)
        wait_until(lambda: done_by(store, Delivery.POLLER) > before + 50, 60, "pollers at work")
        broken.start()
        celery = done_by(store, Delivery.CELERY)
        wait_until(lambda: done_by(store, Delivery.CELERY) > celery + 10, 90, "Celery at work again")
        writer.__exit__()
        all_is_well(deployment, store, writer)

    assert standin.stats()["paid_twice"] <= 2 * 20


def test_what_the_old_delivery_does_not_settle_in_time_is_handed_over_and_its_late_result_discarded(
    deployment: dict[str, str], store: Store, standin: StandIn, tmp_path: Path
) -> None:
    writer = Writer(deployment, at_least=0)
    with fleet(deployment, tmp_path, store, celery=1, pollers=1):
        with standin.held():
            writer.fill(20)
            standin.wait_until_held()
            ran = embedq(deployment, "mode", "database", "--wait", "--timeout", "1", "--reason", "a test", "--json")
            held = store.switches.in_flight([Delivery.CELERY])
        all_is_well(deployment, store, writer)
        wait_until(lambda: sum(w["counters"].get("late", 0) for w in store.workers.all()) > 0, 10, "the late result")

    assert (ran.exit_code, ran.json["handed_over"], held) == (0, 20, 0), ran.err
