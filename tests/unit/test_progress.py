"""When work that is due does not move, from times alone; and that it is told before everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedq.decide.alerts import NAMES, Kept, evaluated
from embedq.decide.circuit_breaker import ProviderState
from embedq.decide.facts import Facts, Level
from embedq.decide.health import NO_PROGRESS, RULES, findings, is_well
from embedq.decide.progress import Progress, at_what, call_bound_s, stalled_s
from embedq.model import Mode

STILL = Progress(due_s=100.0, able_s=100.0, settled_s=100.0, call_s=60.0, batch_s=300.0)
WELL = Facts(mode=Mode.CELERY, broker=True, celery_workers=1, pollers=1)


@pytest.mark.parametrize(
    ("changes", "stalled"),
    [
        pytest.param({}, 100.0, id="due, able, and nothing ended"),
        pytest.param({"settled_s": None}, 100.0, id="nothing has ever ended"),
        pytest.param({"due_s": None}, None, id="nothing is due"),
        pytest.param({"able_s": None}, None, id="nobody may claim"),
        pytest.param({"due_s": 10.0}, None, id="it has just become due"),
        pytest.param({"able_s": 10.0}, None, id="the workers have just begun"),
        pytest.param({"settled_s": 10.0}, None, id="a task has just ended"),
        pytest.param({"answered_s": 5.0}, None, id="a provider answers: the batch may go on"),
        pytest.param({"answered_s": 90.0}, 100.0, id="a provider answered, but not within a call's time"),
        pytest.param(
            {"answered_s": 5.0, "due_s": 400.0, "able_s": 400.0, "settled_s": 400.0}, 400.0, id="answers that never settle"
        ),
        pytest.param({"call_s": 120.0}, None, id="a call may take longer"),
    ],
)
def test_nothing_moves_when_it_could_have_and_has_not(changes: dict[str, float | None], stalled: float | None) -> None:
    assert stalled_s(replace(STILL, **changes)) == stalled


def test_it_is_the_first_finding_and_an_alert() -> None:
    facts = replace(WELL, progress=replace(STILL, known=["held by pid 7"]), stuck=1)

    first, second = findings(facts)

    assert (first.rule, first.level) == (NO_PROGRESS, Level.PROBLEM)
    assert "nothing has ended for 100 s: held by pid 7" in first.what
    assert first.next == second.next, "the next step is that of the cause"
    assert {alert.name for alert in evaluated(facts, Kept()) if alert.firing} == {NO_PROGRESS, "tasks-stuck"}


def test_without_a_known_cause_it_says_that() -> None:
    (found,) = findings(replace(WELL, progress=STILL))

    assert "no cause is known" in found.what
    assert "embedq explain" in found.next


@pytest.mark.parametrize(
    ("changes", "rule", "said"),
    [
        pytest.param({"broker_refuses": "OOM command not allowed"}, "broker-away", "OOM", id="a broker that takes nothing"),
        pytest.param({"unpublished": ["w: READONLY"]}, "broker-away", "READONLY", id="a worker that cannot publish"),
        pytest.param({"read_only": True}, "database-read-only", "takes no writes", id="a database that takes no writes"),
        pytest.param({"clock_behind_s": 3600.0}, "clock", "3600 s before", id="a clock that was set back"),
        pytest.param({"died_young": 3}, "crash-loop", "3 workers died", id="a crash loop"),
        pytest.param({"losing": 1}, "crash-loop", "lost their worker", id="a task that loses its workers"),
        pytest.param(
            {"failing": ["w: settle (9 times in a row): no room left"]}, "threads-fail", "no room left", id="threads that fail"
        ),
        pytest.param({"troubles": [ProviderState("openai", "429", 60, 5)]}, "provider-paused", "429", id="a paused provider"),
    ],
)
def test_a_cause_is_told_by_its_rule(changes: dict[str, object], rule: str, said: str) -> None:
    (found,) = findings(replace(WELL, **changes))  # type: ignore[arg-type]

    assert (found.rule, found.level) == (rule, Level.PROBLEM)
    assert said in found.what
    assert found.next


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"broker_refuses": "OOM", "mode": Mode.DATABASE}, id="mode database gives the broker nothing"),
        pytest.param({"broker_refuses": "OOM", "mode": Mode.HYBRID}, id="hybrid has its pollers"),
        pytest.param({"clock_behind_s": 5.0}, id="clocks of two machines differ a little"),
        pytest.param({"died_young": 2}, id="a worker that was started anew"),
    ],
)
def test_what_hinders_nothing_is_no_problem(changes: dict[str, object]) -> None:
    assert is_well(findings(replace(WELL, **changes)))  # type: ignore[arg-type]


def test_every_rule_has_a_name_that_alerts_know_unless_it_only_finds_notes() -> None:
    assert set(NAMES) >= set(RULES) - {"switched-off", "paused"} | {NO_PROGRESS}


def test_what_a_worker_waits_for_is_said_in_words() -> None:
    assert at_what("w", {"embed": 45.2, "claim": 3.0}) == [
        "w has waited for the provider for 45 s",
        "w has waited for PostgreSQL, to claim tasks for 3 s",
    ]
    assert call_bound_s(30.0, 5.0, 0.0) == 50.0
