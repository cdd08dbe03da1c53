"""The ways back as an operator uses them: assess, plan, rehearse, planned, partial, undo, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from embedq.broker.redis_broker import RedisBroker
from embedq.decide.assess import SLOW_BROKER_S
from embedq.model import Delivery, Mode
from embedq.operations.rollback.evidence import gather
from embedq.operations.rollback.procedures import EMERGENCY
from embedq.store import Store
from tests.redisprocess import OwnRedis

from .incidents import all_is_well, dispatch, done_by, write
from .underload import Writer, embedq, fleet, wait_until


def test_planned_lets_the_broker_finish_and_undo_returns_to_celery(
    deployment: dict[str, str], store: Store, tmp_path: Path
) -> None:
    writer = Writer(deployment, at_least=0)
    writer.fill(600)
    with fleet(deployment, tmp_path, store, celery=1, pollers=1), writer:
        ran = embedq(deployment, "rollback", "planned", "--wait", "5", "--reason", "performance")
        there = store.status.live().mode
        back = embedq(deployment, "rollback", "undo", "--reason", "better now")
        writer.__exit__()
        all_is_well(deployment, store, writer)

    assert (ran.exit_code, there, back.exit_code) == (0, Mode.DATABASE, 0), ran.err + back.err
    assert store.status.live().mode == Mode.CELERY


def test_the_queue_that_an_emergency_backed_up_can_be_imported(plain: dict[str, str], store: Store, tmp_path: Path) -> None:
    write(plain, 3)
    trouble = 'it said "no",\n\tand C:\\temp is full'
    store.database.execute("UPDATE embedding_tasks SET attempts = 1, error_message = %(trouble)s", {"trouble": trouble})
    ran = embedq(plain, "rollback", "emergency", "--folder", str(tmp_path), "--reason", "a test", "--json")
    store.database.execute("DELETE FROM embedding_tasks WHERE article_id <> 'b00000'")

    file = next(step["file"] for step in ran.json["steps"] if step["step"] == "back-up-queue")
    back = embedq(plain, "import", file, "--reason", "they were lost", "--json")

    assert (back.exit_code, back.json["made"], back.json["promised"]) == (0, 2, 1), back.err
    rows = store.database.fetch("SELECT attempts, error_message FROM embedding_tasks")
    assert [(row["attempts"], row["error_message"]) for row in rows] == [(1, trouble)] * 3


def test_partial_compares_both_deliveries(deployment: dict[str, str], store: Store, tmp_path: Path) -> None:
    writer = Writer(deployment, at_least=200)
    writer.fill(1000)
    with fleet(deployment, tmp_path, store, celery=1, pollers=1), writer:
        wait_until(lambda: done_by(store, Delivery.CELERY) > 0, 60, "Celery at work")
        ran = embedq(deployment, "rollback", "partial", "--watch", "5", "--reason", "in doubt", "--json")

    assert ran.exit_code == 0, ran.err
    assert store.status.live().mode == Mode.HYBRID
    compare = next(step for step in ran.json["steps"] if step["step"] == "compare")
    assert {row["delivery"] for row in compare["deliveries"] if row["completed"]} >= {"celery"}


def test_assess_says_which_way_and_why(deployment: dict[str, str], broken: OwnRedis, store: Store, tmp_path: Path) -> None:
    with fleet(deployment, tmp_path, store, celery=1, pollers=0):
        well = embedq(deployment, "rollback", "assess", "--json")
        broken.kill()
        dead = embedq(deployment, "rollback", "assess", "--json")

    assert (well.exit_code, well.json["recommended"]) == (0, "nothing"), well.out
    assert (dead.exit_code, dead.json["recommended"]) == (12, "emergency"), dead.out
    assert all(finding["evidence"] for finding in dead.json["findings"])


def test_the_time_that_a_command_needs_to_begin_is_not_held_against_the_broker(plain: dict[str, str], store: Store) -> None:
    class Beginner(RedisBroker):
        """Its program is slow to load: no broker can be made to look like that."""

        began = False

        @property
        def redis(self) -> Any:
            if not self.began:
                time.sleep(2 * SLOW_BROKER_S)
                self.began = True
            return super().redis

    facts = gather(store, Beginner(plain["REDIS_URL"]))

    assert facts.broker_answers_in_s is not None
    assert facts.broker_answers_in_s < SLOW_BROKER_S


@pytest.mark.parametrize("kind", ["emergency", "planned", "partial"])
def test_a_rehearsal_works_and_leaves_nothing_behind(kind: str, plain: dict[str, str], store: Store) -> None:
    write(plain, 20)
    broker = dispatch(plain, store)
    before = (sorted(broker.redis.keys("*")), store.switches.counts(), schemas(store))

    ran = embedq(plain, "rollback", "rehearse", kind, "--articles", "120", "--json")

    assert ran.exit_code == 0, ran.err
    assert (ran.json["embedded"], ran.json["problems"], ran.json["well"]) == (120, [], True)
    assert (sorted(broker.redis.keys("*")), store.switches.counts(), schemas(store)) == before
    assert store.status.live().mode == Mode.CELERY


def schemas(store: Store) -> list[str]:
    rows = store.database.fetch("SELECT nspname FROM pg_namespace WHERE nspname !~ 'temp' ORDER BY 1")
    return [row["nspname"] for row in rows]


def test_a_rehearsal_works_without_a_broker(deployment: dict[str, str], broken: OwnRedis) -> None:
    broken.kill()

    ran = embedq(deployment, "rollback", "rehearse", "emergency", "--articles", "50", "--json")

    assert (ran.exit_code, ran.json["well"]) == (0, True), ran.err


def test_the_plan_and_a_dry_run_do_nothing(plain: dict[str, str], store: Store) -> None:
    write(plain, 40)
    dispatch(plain, store)
    before = (store.status.live(), store.switches.counts(), len(store.audit.recent(1000)))

    plan = embedq(plain, "rollback", "plan", "emergency")
    dry = embedq(plain, "rollback", "emergency", "--dry-run", "--json")
    switch = embedq(plain, "mode", "database", "--dry-run", "--json")

    assert (plan.exit_code, dry.exit_code, switch.exit_code) == (0, 0, 0)
    assert "40 tasks that the broker was trusted with" in plan.out
    assert [step["step"] for step in dry.json["steps"]] == [step.name for step in EMERGENCY.steps]
    assert (switch.json["tasks_freed"], switch.json["switched_off"]) == (40, ["celery"])
    assert (store.status.live(), store.switches.counts(), len(store.audit.recent(1000))) == before


def test_the_report_tells_what_happened(plain: dict[str, str], store: Store) -> None:
    write(plain, 30)
    embedq(plain, "rollback", "emergency", "--quiet", "0.3", "--reason", "Redis was replaced")

    told = embedq(plain, "rollback", "report", "--json").json

    assert (told["kind"], told["reason"], told["mode_before"], told["state"]) == (
        "emergency",
        "Redis was replaced",
        "celery",
        "ended well",
    )
    assert [step["step"] for step in told["steps"]] == [step.name for step in EMERGENCY.steps]
    assert told["verification"]["wanted"] == [30, 30]
    assert any(entry["category"] == "mode" for entry in told["timeline"])


def test_the_incident_report_spans_the_emergency_and_its_undo(plain: dict[str, str], store: Store) -> None:
    write(plain, 5)
    known = plain | {"EMBEDDING_CONTACTS": "on call: Ann, then Bob"}
    embedq(known, "rollback", "emergency", "--quiet", "0.3", "--reason", "Redis | was replaced")
    embedq(known, "rollback", "undo", "--reason", "it is back")

    told = embedq(known, "rollback", "report", "--markdown")

    assert told.exit_code == 0, told.err
    assert told.out.startswith("# Incident: emergency and undo\n")
    headings = (
        "## Impact",
        "## Root cause",
        "## What worked",
        "## Improvements",
        "## Prevention",
        "## Follow-ups",
        "## Contacts",
    )
    assert all(f"\n{heading}\n" in told.out for heading in headings)
    assert "Redis \\| was replaced" in told.out
    assert "on call: Ann, then Bob" in told.out
    assert "on call: Ann, then Bob" in embedq(known, "rollback", "plan", "emergency").out
