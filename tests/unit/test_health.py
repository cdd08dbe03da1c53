"""Rules over facts: what is wrong, and which command helps."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from embedq.decide.circuit_breaker import ProviderState
from embedq.decide.explaining import Case, Place, reasons
from embedq.decide.facts import Facts, Level
from embedq.decide.health import findings, is_well, without_database
from embedq.decide.snapshots import compare
from embedq.model import Mode, TaskStatus

WELL = Facts(mode=Mode.CELERY, broker=True, celery_workers=1, pollers=1)


def test_nothing_is_found_where_nothing_is_wrong():
    assert findings(WELL) == []
    assert is_well([])


@pytest.mark.parametrize(
    ("changes", "said", "command"),
    [
        pytest.param({"is_running": False, "waiting": {"low": 3}}, "stopped", "embedq start", id="stopped while tasks wait"),
        pytest.param({"broker": False, "broker_why": "refused"}, "refused", "embedq mode database", id="the broker is away"),
        pytest.param({"celery_workers": 0}, "no Celery worker", "celery -A embedq worker", id="nobody works in mode celery"),
        pytest.param({"mode": Mode.DATABASE, "pollers": 0}, "no poller", "embedq poller", id="nobody works in mode database"),
        pytest.param(
            {"consumed": frozenset({"urgent", "high", "normal"}), "waiting": {"low": 7}},
            "queue low; 7",
            "celery -A embedq",
            id="a queue that nobody consumes",
        ),
        pytest.param(
            {"mode": Mode.DATABASE, "polled": frozenset({"urgent", "high"}), "waiting": {"low": 7}},
            "priority low; 7",
            "embedq poller",
            id="a priority that no poller takes",
        ),
        pytest.param(
            {"of_another_kind": ["urgent"]}, "urgent", "embedq broker drain", id="a queue of another kind in the broker"
        ),
        pytest.param({"steward": False}, "keeps house", "restart", id="no steward"),
        pytest.param({"stuck": 2}, "2 tasks", "embedq reset-stuck", id="stuck tasks"),
        pytest.param({"oldest_due_s": 3600.0}, "60 min", "embedq explain", id="the oldest is too old"),
        pytest.param(
            {"troubles": [ProviderState("openai", "429", 60, 5)]}, "429", "embedq provider check", id="a paused provider"
        ),
        pytest.param({"failed": 20, "settled": 100}, "20 of the 100", "embedq failed", id="too many failures"),
    ],
)
def test_a_problem_is_told_with_the_command_that_helps(changes, said, command):
    found = findings(replace(WELL, **changes))

    assert not is_well(found)
    (problem,) = [finding for finding in found if finding.level is Level.PROBLEM]
    assert said in problem.what
    assert command in problem.next


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"is_running": False}, id="stopped, and nothing waits"),
        pytest.param({"mode": Mode.OFF, "celery_workers": 0, "pollers": 0}, id="off needs no worker"),
        pytest.param(
            {"mode": Mode.SYNC, "celery_workers": 0, "pollers": 0}, id="sync needs none while nothing is to be drained"
        ),
        pytest.param({"mode": Mode.DATABASE, "broker": False}, id="database needs no broker"),
        pytest.param({"mode": Mode.HYBRID, "broker": False}, id="hybrid has its pollers"),
        pytest.param({"mode": Mode.HYBRID, "of_another_kind": ["low"]}, id="hybrid has its pollers for what is not published"),
        pytest.param({"mode": Mode.DATABASE, "of_another_kind": ["low"]}, id="database uses no queue of the broker"),
        pytest.param({"consumed": frozenset({"urgent", "high", "normal"})}, id="an empty queue that nobody consumes"),
        pytest.param({"mode": Mode.DATABASE, "polled": frozenset({"urgent"})}, id="nothing waits for what no poller takes"),
        pytest.param({"polled": frozenset({"urgent"})}, id="in mode celery pollers need take nothing"),
        pytest.param({"failed": 9, "settled": 10, "failed_ever": 9}, id="a few failures"),
        pytest.param({"paused_priorities": ["low"], "paused_tenants": ["acme"]}, id="paused on purpose"),
        pytest.param({"submissions_accepted": False, "dispatch_held": True}, id="held on purpose"),
    ],
)
def test_what_is_meant_to_be_so_is_no_problem(changes):
    assert is_well(findings(replace(WELL, **changes)))


# Of each mode: whether it is a problem, by (the broker answers, Celery workers live, pollers live), while tasks wait and while none do.
#                         broker      alive                                  dead
#                         workers     both   Celery pollers none             both   Celery pollers none
WELL_OR_NOT = {
    (Mode.CELERY, 50): ("well", "well", "PROBLEM", "PROBLEM", "PROBLEM", "PROBLEM", "PROBLEM", "PROBLEM"),
    (Mode.CELERY, 0): ("well", "well", "PROBLEM", "PROBLEM", "PROBLEM", "PROBLEM", "PROBLEM", "PROBLEM"),
    (Mode.DATABASE, 50): ("well", "PROBLEM", "well", "PROBLEM", "well", "PROBLEM", "well", "PROBLEM"),
    (Mode.DATABASE, 0): ("well", "PROBLEM", "well", "PROBLEM", "well", "PROBLEM", "well", "PROBLEM"),
    (Mode.HYBRID, 50): ("well", "well", "well", "PROBLEM", "well", "PROBLEM", "well", "PROBLEM"),
    (Mode.HYBRID, 0): ("well", "well", "well", "PROBLEM", "well", "PROBLEM", "well", "PROBLEM"),
    (Mode.SYNC, 50): ("well", "well", "well", "PROBLEM", "well", "PROBLEM", "well", "PROBLEM"),
    (Mode.SYNC, 0): ("well", "well", "well", "well", "well", "well", "well", "well"),
    (Mode.OFF, 50): ("well", "well", "well", "well", "well", "well", "well", "well"),
    (Mode.OFF, 0): ("well", "well", "well", "well", "well", "well", "well", "well"),
}
WORKERS = [(1, 1), (1, 0), (0, 1), (0, 0)]
MATRIX = [
    pytest.param(
        mode,
        waiting,
        broker,
        celery,
        pollers,
        wanted,
        id=f"{mode}, {waiting} wait, broker {broker}, {celery} Celery, {pollers} pollers",
    )
    for (mode, waiting), row in WELL_OR_NOT.items()
    for (broker, (celery, pollers)), wanted in zip(product((True, False), WORKERS), row, strict=True)
]


@pytest.mark.parametrize(("mode", "waiting", "broker", "celery", "pollers", "wanted"), MATRIX)
def test_it_is_well_where_what_waits_will_be_done(mode, waiting, broker, celery, pollers, wanted):
    facts = Facts(mode, broker=broker, celery_workers=celery, pollers=pollers, waiting={"normal": waiting} if waiting else {})

    assert ("well" if is_well(findings(facts)) else "PROBLEM") == wanted


def test_the_matrix_has_every_combination():
    assert set(WELL_OR_NOT) == set(product(Mode, (50, 0)))


def test_a_live_row_that_is_gone_is_a_problem_although_nothing_waits():
    found = findings(replace(WELL, live_row_missing=True, is_running=False))

    (problem,) = [finding for finding in found if finding.level is Level.PROBLEM]
    assert ("is gone" in problem.what, "embedq start" in problem.next) == (True, True)


def test_problems_come_before_notes():
    found = findings(replace(WELL, paused_priorities=["low"], stuck=1, submissions_accepted=False))

    assert [finding.level for finding in found] == [Level.PROBLEM, Level.NOTE, Level.NOTE]


def test_without_a_database_there_is_one_problem():
    assert not is_well(without_database("away", "start it"))


def test_a_comparison_of_two_verifications_tells_what_was_lost():
    before = {"wanted": 10, "stored": 10, "missing": 0}
    after = {"wanted": 10, "stored": 7, "missing": 3, "pending": 0}

    rows, problems = compare(before, after)

    assert ("stored", 10, 7) in rows
    assert len(problems) == 2
    assert compare(before, before)[1] == []
    assert "fewer" in compare(before, {"wanted": 9, "stored": 9, "missing": 0})[1][0]


PENDING = Case(ready=False, status=TaskStatus.PENDING, mode=Mode.CELERY, celery_workers=1)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        pytest.param(replace(PENDING, ready=True), "searchable", id="ready"),
        pytest.param(PENDING, "claimed next", id="due"),
        pytest.param(replace(PENDING, is_running=False), "stopped", id="stopped"),
        pytest.param(replace(PENDING, mode=Mode.OFF), "off", id="off"),
        pytest.param(replace(PENDING, is_paused=True), "paused", id="paused"),
        pytest.param(replace(PENDING, celery_workers=0), "no living Celery worker", id="nobody consumes its queue"),
        pytest.param(replace(PENDING, mode=Mode.DATABASE), "no poller", id="no poller"),
        pytest.param(replace(PENDING, due_in_s=90.0, error="busy"), "90 s after: busy", id="waits for its next try"),
        pytest.param(replace(PENDING, provider_why="429", provider_left_s=7.0), "7 s: 429", id="provider paused"),
        pytest.param(replace(PENDING, place=Place.NOWHERE), "message is gone", id="its message was lost"),
        pytest.param(replace(PENDING, status=TaskStatus.PROCESSING, worker="w1"), "w1 has held it", id="held"),
        pytest.param(replace(PENDING, status=TaskStatus.PROCESSING, worker_alive=False), "dead", id="held by the dead"),
        pytest.param(replace(PENDING, status=TaskStatus.FAILED, error="too long"), "too long", id="failed"),
        pytest.param(replace(PENDING, status=TaskStatus.SKIPPED, error="no text"), "no text", id="skipped"),
        pytest.param(replace(PENDING, status=TaskStatus.CANCELLED, error="withdrawn"), "withdrawn", id="cancelled"),
        pytest.param(replace(PENDING, status=TaskStatus.COMPLETED), "has no vector", id="completed without a vector"),
        pytest.param(replace(PENDING, status=None), "no open task", id="no task"),
        pytest.param(replace(PENDING, status=None, mode=Mode.OFF), "mode was off", id="no task because of off"),
        pytest.param(
            replace(PENDING, status=None, submissions_accepted=False), "submissions", id="no task because of maintenance"
        ),
    ],
)
def test_why_an_article_is_not_searchable_is_said_first(case, said):
    assert said in reasons(case)[0].what
