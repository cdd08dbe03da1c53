"""What a process does in which mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.modes import (
    CLAIMING,
    DISPATCHING,
    MISSING,
    STANDING_BACK,
    TAKING_OVER,
    Decision,
    LiveState,
    PollerClaims,
    ProcessEnv,
    Source,
    decide,
)
from embedq.decide.modes_table import rst_table, table
from embedq.decide.throttle import Throttle
from embedq.model import Delivery, Mode

ORDINARY = ProcessEnv()
lives = st.builds(LiveState, st.sampled_from(Mode), st.booleans(), st.booleans(), st.none() | st.just("why"))
processes = st.builds(ProcessEnv, st.booleans(), st.booleans())


def claims_something(decision: Decision) -> bool:
    return decision.celery_claims or decision.poller_claims is not PollerClaims.NOTHING


@pytest.mark.parametrize(
    ("mode", "makes_tasks", "embeds_on_write", "dispatches", "celery_claims", "poller_claims", "search_enabled"),
    [
        pytest.param("celery", True, False, True, True, "nothing", True, id="celery"),
        pytest.param("database", True, False, False, False, "everything", True, id="database"),
        pytest.param("hybrid", True, False, True, True, "what the broker is not delivering", True, id="hybrid"),
        pytest.param("sync", False, True, True, True, "drain", True, id="sync"),
        pytest.param("off", False, False, False, False, "nothing", False, id="off"),
    ],
)
def test_each_mode_is_what_the_table_says(
    mode: str,
    makes_tasks: bool,
    embeds_on_write: bool,
    dispatches: bool,
    celery_claims: bool,
    poller_claims: str,
    search_enabled: bool,
) -> None:
    decision = decide(LiveState(Mode(mode), reason="the broker is new"), ORDINARY)

    assert decision == Decision(
        mode=Mode(mode),
        source=Source.LIVE,
        reason="the broker is new",
        makes_tasks=makes_tasks,
        embeds_on_write=embeds_on_write,
        dispatches=dispatches,
        celery_claims=celery_claims,
        poller_claims=PollerClaims(poller_claims),
        search_enabled=search_enabled,
    )


def test_the_statements_are_told_the_modes_of_the_table():
    names = {name: [mode.value for mode in modes] for name, modes in CLAIMING.items()}
    assert names == {Delivery.CELERY: ["celery", "hybrid", "sync"], Delivery.POLLER: ["database", "hybrid", "sync"]}
    assert (DISPATCHING, TAKING_OVER, STANDING_BACK) == (["celery", "hybrid", "sync"], ["hybrid", "sync"], ["hybrid"])


def test_a_row_that_is_gone_is_stopped_and_says_what_to_do():
    gone = LiveState.of(None)

    assert gone is MISSING
    assert (gone.missing, gone.is_running, gone.dispatches) == (True, False, False)
    assert not claims_something(decide(gone, ORDINARY))
    assert decide(gone, ORDINARY).makes_tasks, "the triggers make tasks without a row"
    assert "embedq start" in decide(gone, ORDINARY).reason


def test_a_row_becomes_a_typed_value_and_a_row_again():
    row = {
        "id": 1,
        "mode": "hybrid",
        "is_running": True,
        "submissions_accepted": False,
        "reason": "why",
        "changed_by": "ann",
        "changed_at": None,
        "dispatch_held": True,
        "paused_priorities": ["low"],
        "paused_tenants": ["acme"],
        "maintenance": {"state": "running"},
        "throttle": {"batch": 7},
    }

    live = LiveState.of(row)

    assert (live.mode, live.paused_priorities, live.throttle, live.maintenance_runs) == (
        Mode.HYBRID,
        ("low",),
        Throttle(batch=7),
        True,
    )
    assert (live.dispatches, live.makes_tasks) == (False, False)
    assert live.columns() == {name: value for name, value in row.items() if name != "id"}
    hash(live)


def test_what_a_hand_wrote_into_the_row_and_makes_no_sense_counts_as_not_said():
    live = LiveState.of({"mode": "celery", "maintenance": ["x"], "throttle": "slow"})

    assert (live.maintenance, live.throttle) == (None, Throttle())


@pytest.mark.parametrize(
    ("live", "queue_enabled", "search_enabled", "mode", "source"),
    [
        pytest.param("celery", False, True, "sync", "EMBEDDING_QUEUE_ENABLED", id="a disabled queue means sync here"),
        pytest.param("celery", True, False, "off", "SEMANTIC_SEARCH_ENABLED", id="disabled search means off here"),
        pytest.param("celery", False, False, "off", "SEMANTIC_SEARCH_ENABLED", id="disabled search beats a disabled queue"),
        pytest.param("off", False, True, "off", "live", id="a disabled queue does not undo the off of the operator"),
        pytest.param("sync", False, True, "sync", "EMBEDDING_QUEUE_ENABLED", id="the setting is named when both say sync"),
        pytest.param("off", True, False, "off", "SEMANTIC_SEARCH_ENABLED", id="the setting is named when both say off"),
        pytest.param("hybrid", True, True, "hybrid", "live", id="otherwise the live mode decides"),
    ],
)
def test_who_decides_the_mode(live: str, queue_enabled: bool, search_enabled: bool, mode: str, source: str) -> None:
    decision = decide(LiveState(Mode(live)), ProcessEnv(queue_enabled, search_enabled))

    assert (decision.mode, decision.source) == (mode, source)


def test_a_setting_says_what_it_hides() -> None:
    decision = decide(LiveState(Mode.HYBRID, reason="the broker is new"), ProcessEnv(queue_enabled=False))

    assert decision.reason == "EMBEDDING_QUEUE_ENABLED=false in this process; the live mode is hybrid"


def test_a_disabled_queue_embeds_on_write_and_leaves_the_claims_to_the_live_mode() -> None:
    decision = decide(LiveState(Mode.DATABASE), ProcessEnv(queue_enabled=False))

    assert (decision.makes_tasks, decision.embeds_on_write) == (False, True)
    assert (decision.celery_claims, decision.poller_claims) == (False, PollerClaims.EVERYTHING)


def test_a_stopped_queue_still_embeds_the_writes_of_sync_mode() -> None:
    decision = decide(LiveState(Mode.SYNC, is_running=False), ORDINARY)

    assert decision.embeds_on_write
    assert not claims_something(decision)


def test_paused_submissions_leave_the_workers_at_work() -> None:
    decision = decide(LiveState(Mode.CELERY, submissions_accepted=False), ORDINARY)

    assert not decision.makes_tasks
    assert (decision.dispatches, decision.celery_claims) == (True, True)


@given(lives, processes)
def test_no_setting_gives_a_worker_a_claim_that_the_live_mode_denies(live: LiveState, process: ProcessEnv) -> None:
    here, elsewhere = decide(live, process), decide(live, ORDINARY)

    assert here.celery_claims <= elsewhere.celery_claims
    assert here.poller_claims in (elsewhere.poller_claims, PollerClaims.NOTHING)
    assert here.dispatches <= elsewhere.dispatches


@given(lives, processes)
def test_nothing_is_claimed_or_dispatched_while_stopped(live: LiveState, process: ProcessEnv) -> None:
    decision = decide(live, process)

    assert live.is_running or not (claims_something(decision) or decision.dispatches)


@given(lives, processes)
def test_nothing_new_begins_while_submissions_are_paused(live: LiveState, process: ProcessEnv) -> None:
    decision = decide(live, process)

    assert live.submissions_accepted or not (decision.makes_tasks or decision.embeds_on_write)


@given(lives, processes)
def test_a_write_never_both_embeds_and_makes_a_task(live: LiveState, process: ProcessEnv) -> None:
    decision = decide(live, process)

    assert not (decision.makes_tasks and decision.embeds_on_write)


@given(lives, processes)
def test_search_is_disabled_in_off_and_only_there(live: LiveState, process: ProcessEnv) -> None:
    decision = decide(live, process)

    assert decision.search_enabled == (decision.mode is not Mode.OFF)


@given(lives, processes)
def test_there_is_always_a_reason_to_show(live: LiveState, process: ProcessEnv) -> None:
    assert decide(live, process).reason


def test_the_table_has_every_combination_once() -> None:
    rows = table()

    asked = {(row.live, row.process) for row in rows}
    assert len(asked) == len(rows) == len(Mode) * 2**4
    assert all(row.decision == decide(row.live, row.process) for row in rows)


def test_the_rendered_table_has_a_line_for_each_row_between_its_rules() -> None:
    rows = table()

    lines = rst_table(rows).splitlines()

    rule = lines[0]
    assert set(rule) == {"=", " "}
    assert lines[2] == lines[-1] == rule
    assert len(lines) == len(rows) + 4
    assert lines[3].split() == (
        ["celery", "yes", "accepted", "true", "true", "celery", "live", "makes", "a", "task", "yes", "yes", "nothing", "on"]
    )
