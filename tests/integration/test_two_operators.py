"""Two operators at once, an operator beside a procedure, and a live row that is gone: each change is whole, on record, and builds on the other."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from embedq.broker import broker_at
from embedq.decide.throttle import Throttle
from embedq.errors import NotWell
from embedq.model import Delivery, Mode
from embedq.operations.mode_switch import switch
from embedq.operations.rollback.procedure import Scene, perform, run_to_undo
from embedq.operations.rollback.procedures import EMERGENCY, PLANNED, UNDO, options_of
from embedq.steward import maintenance_window
from embedq.store.fence import acting_for
from tests.support import until

ACTS = [
    pytest.param(lambda store: store.status.set_mode(Mode.DATABASE, "why", "ann"), "mode", "database", id="mode"),
    pytest.param(lambda store: switch(store, Mode.DATABASE, "why", "ann"), "mode", "database", id="switch"),
    pytest.param(lambda store: store.status.set_running(False, "why", "ann"), "is_running", False, id="stop"),
    pytest.param(
        lambda store: store.status.pause({"tenants": (["acme"], [])}, "why", "ann"), "paused_tenants", ("acme",), id="pause"
    ),
    pytest.param(lambda store: store.status.set_dispatch_held(True, "ann"), "dispatch_held", True, id="hold"),
    pytest.param(
        lambda store: store.throttles.change(lambda _: Throttle(batch=7), "ann", "why"),
        "throttle",
        Throttle(batch=7),
        id="throttle",
    ),
    pytest.param(
        lambda store: maintenance_window.set_submissions(store, False, "why", "ann"),
        "submissions_accepted",
        False,
        id="submissions",
    ),
    pytest.param(
        lambda store: maintenance_window.start(store, None, "why", "ann", pause_submissions=True),
        "submissions_accepted",
        False,
        id="maintenance",
    ),
]


@pytest.mark.parametrize(("act", "column", "value"), ACTS)
def test_a_live_row_that_was_deleted_is_made_anew_by(psql, store, act, column, value):
    psql("DELETE FROM embedding_worker_status")

    act(store)

    live = store.status.live()
    assert (live.missing, getattr(live, column)) == (False, value)
    assert psql("SELECT count(*) FROM embedding_audit_logs") == [(1,)]


@pytest.mark.parametrize(("act", "column", "value"), ACTS)
def test_what_cannot_be_put_on_record_is_not_done_either(psql, store, act, column, value):
    before = store.status.live()
    psql("ALTER TABLE embedding_audit_logs ADD CONSTRAINT full_disk CHECK (false) NOT VALID")

    with pytest.raises(psycopg.errors.CheckViolation):
        act(store)

    assert store.status.live() == before


@pytest.fixture
def both(store, session, in_thread, lock_waits):
    """Two acts that meet at the fence: each begins before the other is done. Returns their futures."""

    def meet(one, other):
        claim = session()
        claim.do("SELECT pg_advisory_xact_lock_shared(embedq_fence_key())")
        futures = []
        for number, act in enumerate((one, other), 1):
            futures.append(in_thread(act))
            until(lambda number=number: lock_waits() == number, why="it does not wait at the fence")
        claim.commit()
        for future in futures:
            future.exception(20)
        return futures

    return meet


def test_of_two_who_begin_maintenance_one_is_told_and_submissions_go_on_when_it_ends(store, both):
    one, other = both(
        lambda: maintenance_window.start(store, None, "A", "ann", pause_submissions=True),
        lambda: maintenance_window.start(store, None, "B", "bob"),
    )
    reason = (maintenance_window.current(store) or {})["reason"]

    maintenance_window.end(store, "over", "ann")

    assert (one.exception(), reason) == (None, "A")
    assert isinstance(other.exception(), NotWell)
    live = store.status.live()
    assert (live.maintenance, live.submissions_accepted) == (None, True)


def test_two_pauses_at_once_are_both_kept(store, both):
    both(
        lambda: store.status.pause({"tenants": (["acme"], [])}, "A", "ann"),
        lambda: store.status.pause({"tenants": (["umbrella"], [])}, "B", "bob"),
    )

    assert store.status.live().paused_tenants == ("acme", "umbrella")


def test_two_limits_at_once_are_both_kept(store, both):
    from dataclasses import replace

    both(
        lambda: store.throttles.change(lambda held: replace(held, batch=7), "ann", "A"),
        lambda: store.throttles.change(lambda held: replace(held, concurrency=2), "bob", "B"),
    )

    assert store.throttles.live() == Throttle(batch=7, concurrency=2)


def test_two_switches_at_once_say_truly_what_each_has_switched(psql, store, both):
    one, other = both(lambda: switch(store, Mode.DATABASE, "A", "ann"), lambda: switch(store, Mode.HYBRID, "B", "bob"))

    assert [(done.result().before, done.result().after) for done in (one, other)] == [
        (Mode.CELERY, Mode.DATABASE),
        (Mode.DATABASE, Mode.HYBRID),
    ]
    assert store.status.live().mode == "hybrid"


def test_a_switch_hands_nothing_over_when_another_switch_has_come_after_it(psql, store, add, another, in_thread):
    psql("UPDATE embedding_worker_status SET mode = 'celery'")
    add("a")
    worker = another(Delivery.CELERY)
    worker.claim()

    waiting = in_thread(lambda: switch(store, Mode.DATABASE, "A", "ann", wait_s=1.0))
    until(lambda: store.status.live().mode == "database", why="the switch")
    switch(store, Mode.CELERY, "B", "bob")

    done = waiting.result(20)
    assert (done.handed_over, store.switches.in_flight([Delivery.CELERY])) == (0, 1)
    assert any("switched it again" in line for line in done.warnings)


# Procedures ------------------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What ends a command without another word."""


@pytest.fixture
def scene(store, settings, redis_url, tmp_path: Path):
    with closing(broker_at(redis_url)) as broker:
        yield lambda say=lambda _: None: Scene(store, broker, settings, "ann", "a test", tmp_path, say=say)


def at(step: str, act):
    """Act when the procedure says that it begins this step."""

    def say(line: str) -> None:
        if f" {step}: " in line:
            act()

    return say


def ended_in(scene, procedure, step: str, **given) -> None:
    """A procedure whose process is killed when it begins this step."""

    def kill() -> None:
        raise Killed

    here = scene(at(step, kill))
    with pytest.raises(Killed):
        perform(procedure, here, options_of(procedure.kind, here.store, given))


def emergency(scene, **given):
    here = scene()
    return perform(EMERGENCY, here, options_of("emergency", here.store, {"quiet_s": 0.1, "grace_s": 0.1} | given))


def test_a_mode_is_refused_while_a_procedure_is_under_way(psql, store):
    with store.switches.alone("procedure", "wait"), pytest.raises(NotWell, match="under way"):
        switch(store, Mode.OFF, "B", "bob")

    assert psql("SELECT mode FROM embedding_worker_status") == [("celery",)]


@pytest.mark.parametrize("step", ["drain", "hand-back", "verify", "maintenance-off"])
def test_an_emergency_whose_mode_was_switched_by_hand_does_not_say_that_it_ended_well(psql, store, scene, step):
    here = scene(at(step, lambda: psql("UPDATE embedding_worker_status SET mode = 'celery'")))

    ended = perform(EMERGENCY, here, options_of("emergency", store, {"quiet_s": 0.1, "grace_s": 0.1}))

    assert ended.exit_code == 3
    assert any("the mode is celery, not database" in line for line in ended.wrong)


@pytest.mark.parametrize("step", [step.name for step in PLANNED.steps])
def test_an_emergency_takes_over_from_a_planned_rollback_that_died_at_any_step(psql, store, scene, add, step):
    add("a", "b")
    ended_in(scene, PLANNED, step, wait_s=0.1, quiet_s=0.1)

    ended = emergency(scene)
    taken_back = run_to_undo(store)
    back = perform(UNDO, scene(), options_of("undo", store, {}))

    assert (ended.exit_code, back.exit_code) == (0, 0), (ended, back)
    assert taken_back.run == ended.run.run
    live = store.status.live()
    assert (live.mode, live.maintenance, live.dispatch_held) == ("celery", None, False)
    assert store.procedures.unfinished() is None


def test_an_emergency_takes_over_from_a_planned_rollback_that_is_alive_and_which_then_changes_nothing(
    psql, store, scene, add, another, in_thread
):
    add("a")
    another(Delivery.CELERY).claim()
    waits = threading.Event()
    here = scene(at("let-finish", waits.set))
    planned = in_thread(lambda: perform(PLANNED, here, options_of("planned", store, {"wait_s": 60.0, "to": "hybrid"})))
    assert waits.wait(20)

    began = time.monotonic()
    ended = emergency(scene)

    assert (ended.exit_code, time.monotonic() - began < 20) == (0, True), ended
    with pytest.raises(NotWell, match="taken over"):
        planned.result(20)
    live = store.status.live()
    assert (live.mode, live.maintenance, live.dispatch_held) == ("database", None, False)


def test_a_procedure_that_was_frozen_while_another_took_over_changes_nothing_when_it_wakes(psql, store, scene):
    ended_in(scene, PLANNED, "let-finish")
    frozen = store.procedures.unfinished()
    emergency(scene)

    with acting_for(frozen.run):
        for act in (
            lambda: store.status.set_mode(Mode.HYBRID, "I wake", "ann"),
            lambda: store.status.set_dispatch_held(True, "ann"),
            lambda: maintenance_window.start(store, None, "I wake", "ann"),
        ):
            with pytest.raises(NotWell, match="taken over"):
                act()

    assert psql("SELECT mode, dispatch_held, maintenance FROM embedding_worker_status") == [("database", False, None)]


def test_two_emergencies_at_once_are_one(store, scene, in_thread):
    holds, go_on = threading.Event(), threading.Event()
    here = scene(at("snapshot", lambda: (holds.set(), go_on.wait(20))))
    first = in_thread(lambda: perform(EMERGENCY, here, options_of("emergency", store, {"quiet_s": 0.1})))
    assert holds.wait(20)

    with pytest.raises(NotWell):
        emergency(scene)

    go_on.set()
    assert first.result(30).exit_code == 0
