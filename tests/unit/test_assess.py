"""Which way back, from the facts alone; and what a message, a switch and a calendar mean."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.decide.assess import EXIT_CODES, Facts, Way, assess, recommended
from embedq.decide.messages import NamesArticles, NamesTasks, NotUnderstood, understand
from embedq.decide.switching import begins_making_tasks, switched_off
from embedq.model import Mode
from embedq.steward.calendar import Due, due

WELL = Facts(
    Mode.CELERY, broker_answers_in_s=0.01, open_tasks=10, oldest_unclaimed_s=1.0, celery_done_lately=100, celery_done_s_ago=1.0
)
NOW = datetime(2026, 5, 1, 22, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        pytest.param({}, Way.NOTHING, id="all is well"),
        pytest.param({"broker_answers": False}, Way.EMERGENCY, id="the broker does not answer"),
        pytest.param({"broker_answers": False, "mode": Mode.HYBRID}, Way.FIX_IN_PLACE, id="in hybrid mode pollers carry on"),
        pytest.param(
            {"broker_answers": False, "mode": Mode.HYBRID, "pollers": 0}, Way.EMERGENCY, id="hybrid without pollers is celery"
        ),
        pytest.param({"broker_answers": False, "mode": Mode.DATABASE}, Way.NOTHING, id="mode database needs no broker"),
        pytest.param({"broker_answers_in_s": 0.9}, Way.PARTIAL, id="a slow broker is doubtful"),
        pytest.param({"celery_workers": 0}, Way.EMERGENCY, id="nobody consumes"),
        pytest.param(
            {"queues_of_another_kind": ("low",), "celery_workers": 0, "oldest_unclaimed_s": 90.0},
            Way.FIX_IN_PLACE,
            id="nobody can consume until a queue of another kind is made anew",
        ),
        pytest.param(
            {"queues_of_another_kind": ("low",), "celery_done_lately": 0, "oldest_unclaimed_s": 90.0},
            Way.FIX_IN_PLACE,
            id="workers complete nothing because of a queue of another kind",
        ),
        pytest.param(
            {"queues_of_another_kind": ("low",), "mode": Mode.DATABASE}, Way.NOTHING, id="mode database uses no queue"
        ),
        pytest.param({"celery_workers": 0, "open_tasks": 0}, Way.NOTHING, id="nobody consumes, and nothing is open"),
        pytest.param({"mode": Mode.DATABASE, "pollers": 0}, Way.FIX_IN_PLACE, id="a missing poller is started"),
        pytest.param(
            {"mode": Mode.SYNC, "pollers": 0, "celery_workers": 0},
            Way.FIX_IN_PLACE,
            id="a worker for what sync leaves is started",
        ),
        pytest.param({"mode": Mode.OFF, "pollers": 0, "celery_workers": 0}, Way.NOTHING, id="off needs no worker"),
        pytest.param({"broker_answers": False, "mode": Mode.SYNC}, Way.FIX_IN_PLACE, id="in sync mode pollers carry on"),
        pytest.param({"live_row_missing": True, "is_running": False}, Way.FIX_IN_PLACE, id="the live row is gone"),
        pytest.param(
            {"oldest_unclaimed_s": 90.0, "celery_done_s_ago": None}, Way.PLANNED, id="workers live and complete nothing"
        ),
        pytest.param(
            {"oldest_unclaimed_s": 90.0, "celery_done_s_ago": 90.0},
            Way.PLANNED,
            id="workers completed something, but not lately",
        ),
        pytest.param(
            {"oldest_unclaimed_s": 90.0, "celery_done_s_ago": 90.0, "provider_fault": "openai: 503"},
            Way.FIX_IN_PLACE,
            id="a delay while the provider is away is not Celery's",
        ),
        pytest.param(
            {"oldest_unclaimed_s": 90.0, "celery_done_s_ago": 90.0, "is_running": False},
            Way.FIX_IN_PLACE,
            id="a delay while everything is stopped is not Celery's",
        ),
        pytest.param({"broker_refuses": "OOM"}, Way.EMERGENCY, id="the broker takes no message"),
        pytest.param(
            {"broker_refuses": "OOM", "mode": Mode.HYBRID}, Way.FIX_IN_PLACE, id="in hybrid pollers carry on meanwhile"
        ),
        pytest.param({"broker_refuses": "OOM", "mode": Mode.DATABASE}, Way.NOTHING, id="mode database gives it no message"),
        pytest.param({"rescues_lately": 3}, Way.FIX_IN_PLACE, id="workers that die are no proof against the broker"),
        pytest.param({"lost_messages_lately": 2}, Way.NOTHING, id="a loss or two may be a restart"),
        pytest.param(
            {"integrity_problems": ("3 orphans",), "integrity_compromised": True}, Way.EMERGENCY, id="integrity is compromised"
        ),
        pytest.param(
            {"integrity_problems": ("3 orphans",), "integrity_compromised": True, "mode": Mode.DATABASE},
            Way.FIX_IN_PLACE,
            id="integrity is compromised without the broker",
        ),
        pytest.param({"oldest_unclaimed_s": 90.0}, Way.NOTHING, id="a long queue that moves is only long"),
        pytest.param(
            {"celery_failed_lately": 50, "poller_done_lately": 50}, Way.PLANNED, id="Celery fails where pollers do not"
        ),
        pytest.param(
            {"celery_failed_lately": 50}, Way.FIX_IN_PLACE, id="failures without a comparison are the texts' or the provider's"
        ),
        pytest.param({"celery_failed_lately": 3, "celery_done_lately": 0}, Way.NOTHING, id="a few failures say nothing"),
        pytest.param({"lost_messages_lately": 3}, Way.PARTIAL, id="messages are lost"),
        pytest.param({"provider_fault": "openai: 503"}, Way.FIX_IN_PLACE, id="the provider is at fault"),
        pytest.param({"is_running": False}, Way.FIX_IN_PLACE, id="somebody stopped the queue"),
        pytest.param({"integrity_problems": ("3 articles are stale",)}, Way.FIX_IN_PLACE, id="something is missing"),
        pytest.param({"broker_answers": False, "provider_fault": "x"}, Way.EMERGENCY, id="the strongest finding decides"),
    ],
)
def test_the_facts_recommend_a_way(changes: dict[str, object], way: Way) -> None:
    findings = assess(replace(WELL, **changes))  # type: ignore[arg-type]

    assert recommended(findings).way is way


def test_each_finding_has_evidence_and_each_way_an_exit_code_of_its_own() -> None:
    assert all(finding.evidence for finding in assess(WELL))
    assert set(EXIT_CODES) == set(Way)
    assert len(set(EXIT_CODES.values())) == len(Way)


# Messages -------------------------------------------------------------------------------------------------------------------------


def message(content: object, task: str | None = "embedq.embed", **more: object) -> bytes:
    body = base64.b64encode(json.dumps(content).encode()).decode()
    headers = {} if task is None else {"task": task}
    return json.dumps({"body": body, "headers": headers, "properties": {"body_encoding": "base64"}} | more).encode()


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        pytest.param(message([[[1, 2]], {}, {}]), NamesTasks((1, 2)), id="ours"),
        pytest.param(message([[], {"task_ids": [3]}, {}]), NamesTasks((3,)), id="ours, by keyword"),
        pytest.param(
            json.dumps([json.loads(message([[[1]], {}, {}])), "embedq", "low"]).encode(), NamesTasks((1,)), id="unacknowledged"
        ),
        pytest.param(message([[["x"]], {}, {}]), NotUnderstood("it names no task ids"), id="ids that are no numbers"),
        pytest.param(message([[[True]], {}, {}]), NotUnderstood("it names no task ids"), id="true is no number"),
        pytest.param(
            message([[], {"article_id": "a"}, {}], "app.embed"), NamesArticles("app.embed", ("a",)), id="another program's"
        ),
        pytest.param(message([["a", 7, None], {}, {}], "embed_one"), NamesArticles("embed_one", ("a", "7")), id="by position"),
        pytest.param(message([[], {"text": "a"}, {}], "embed"), NotUnderstood("embed names no article"), id="no id in it"),
        pytest.param(
            message({"task": "embed", "args": ["a"], "kwargs": {}}, None), NamesArticles("embed", ("a",)), id="protocol 1"
        ),
        pytest.param(message([[], {}, {}], "send_mail"), NotUnderstood("the task send_mail is not ours"), id="not ours"),
        pytest.param(message([[], {}, {}], None), NotUnderstood("the message names no task"), id="no headers"),
        pytest.param(b"\xff\xfe", NotUnderstood("the message is not JSON"), id="no text"),
        pytest.param(b"[" * 100_000, NotUnderstood("the message is not JSON"), id="too deep"),
        pytest.param(b"7", NotUnderstood("the message is no JSON object"), id="a number"),
        pytest.param(b"{}", NotUnderstood("the message has no body"), id="no body"),
        pytest.param(
            b'{"body": "%%%", "properties": {"body_encoding": "base64"}}',
            NotUnderstood("the body is not base64"),
            id="bad base64",
        ),
    ],
)
def test_a_message_is_understood_or_said_not_to_be(raw: bytes, meaning: object) -> None:
    assert understand(raw) == meaning


def test_a_compressed_message_is_understood() -> None:
    body = base64.b64encode(zlib.compress(b"[[[5]], {}, {}]")).decode()
    headers = {"task": "embedq.embed", "compression": "application/x-gzip"}

    meaning = understand(json.dumps({"body": body, "headers": headers, "properties": {"body_encoding": "base64"}}).encode())

    assert meaning == NamesTasks((5,))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.binary())
def test_no_bytes_are_too_odd(raw: bytes) -> None:
    assert isinstance(understand(raw), NotUnderstood | NamesTasks | NamesArticles)


@given(
    st.fixed_dictionaries(
        {"body": JSON, "headers": JSON, "properties": JSON, "content-type": st.just("application/json") | JSON}
    )
)
def test_no_envelope_is_too_odd(envelope: dict[str, object]) -> None:
    assert isinstance(understand(json.dumps(envelope).encode()), NotUnderstood | NamesTasks | NamesArticles)


# Switches and the calendar --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "off", "begins"),
    [
        pytest.param("celery", "database", {"celery"}, False, id="away from the broker"),
        pytest.param("celery", "hybrid", set(), False, id="nothing is switched off"),
        pytest.param("hybrid", "off", {"celery", "poller"}, False, id="everything is switched off"),
        pytest.param("off", "celery", set(), True, id="what was written meanwhile has no tasks"),
        pytest.param("sync", "database", {"celery"}, True, id="what failed meanwhile has no tasks"),
    ],
)
def test_what_a_switch_means(before: str, after: str, off: set[str], begins: bool) -> None:
    assert switched_off(Mode(before), Mode(after)) == off
    assert begins_making_tasks(Mode(before), Mode(after)) is begins


@pytest.mark.parametrize(
    ("state", "starts_in_s", "ends_in_s", "wanted"),
    [
        pytest.param("scheduled", 60, 120, Due.NOTHING, id="its time has not come"),
        pytest.param("scheduled", 0, 120, Due.BEGIN, id="its time has come"),
        pytest.param("scheduled", -120, -60, Due.BEGIN, id="one that was slept through begins before it ends"),
        pytest.param("running", -60, 60, Due.NOTHING, id="it runs"),
        pytest.param("running", -60, 0, Due.END, id="its time is over"),
        pytest.param("running", -60, None, Due.NOTHING, id="without an end it goes on"),
    ],
)
def test_a_window_begins_and_ends_in_its_time(state: str, starts_in_s: int, ends_in_s: int | None, wanted: Due) -> None:
    ends_at = None if ends_in_s is None else (NOW + timedelta(seconds=ends_in_s)).isoformat()
    window = {"state": state, "starts_at": (NOW + timedelta(seconds=starts_in_s)).isoformat(), "ends_at": ends_at}

    assert due(window, NOW) is wanted
    assert due(None, NOW) is Due.NOTHING
