"""What Celery may get of a message, and of a remote command: from their bytes alone, whatever those are."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import celery
import pytest
from celery.app.trace import trace_task_ret
from celery.worker.request import Request
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport.virtual import Message
from kombu.utils.json import loads

from embedq.decide import control
from embedq.decide.messages import (
    LARGEST_BYTES,
    MOST_IDS,
    NamesArticles,
    NamesTasks,
    NotUnderstood,
    escaped,
    for_celery,
    is_restorable,
    understand,
)
from tests.envelopes import RAW, VALUE, envelope

NOW = datetime(2026, 5, 1, tzinfo=UTC)
MESSAGES, AT_ONCE = 10_000, 25


def handed_over(made: Any, queue: str = "normal") -> dict[str, Any] | None:
    raw = made if isinstance(made, bytes) else json.dumps(made).encode()
    return for_celery(raw, queue, "tag", NOW)


class Celery:
    """Celery's own code from the bytes that Redis hands over to the call of the task, in this process."""

    def __init__(self) -> None:
        self.app = celery.Celery("test", broker="memory://", set_as_current=False)
        self.app.conf.update(accept_content=["json"], task_ignore_result=True, result_backend=None)
        self.called: list[list[int]] = []

        @self.app.task(name="embedq.embed", ignore_result=True)
        def embed(task_ids: list[int]) -> None:
            self.called.append(task_ids)

        self.app.finalize()
        self.channel = Connection("memory://").channel()

    def take(self, made: dict[str, Any]) -> None:
        message = Message(loads(json.dumps(made)), channel=self.channel)
        assert message.errors == []
        request = Request(message, app=self.app, body=message.body, headers=message.headers)
        assert not request.maybe_expire()
        str(request), request.info(), request.stamps, request.chord, request.errbacks, request.group
        failed, _, _ = trace_task_ret(
            request.type,
            request.id,
            request.request_dict,
            request.body,
            request.content_type,
            request.content_encoding,
            app=self.app,
        )
        assert not failed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_messages_are_handed_over_in_order_or_not_at_all():
    consumer, seen = Celery(), []

    def handed_over_or_not(raw: bytes) -> None:
        meaning, made = understand(raw), for_celery(raw, "normal", "tag", NOW)
        assert isinstance(meaning, NotUnderstood | NamesTasks | NamesArticles)
        seen.append(made is not None)
        if made is not None:
            consumer.take(made)
            assert isinstance(meaning, NamesTasks)
            assert consumer.called[-1] == list(meaning.ids)

    # Several to an example: what Hypothesis does for each example takes longer than a message does.
    @settings(max_examples=MESSAGES // AT_ONCE, database=None)
    @given(st.lists(RAW, min_size=AT_ONCE, max_size=AT_ONCE))
    def anything(messages: list[bytes]) -> None:
        for raw in messages:
            handed_over_or_not(raw)

    anything()

    assert len(seen) >= MESSAGES
    assert 0.1 < sum(seen) / len(seen) < 0.9


def test_a_message_of_ours_is_made_anew_from_what_was_checked():
    given = envelope(
        [7, 8], {"retries": 2, "somebody's": "header", "origin": "elsewhere"}, {"delivery_tag": "theirs", "other": 1}
    )

    made = handed_over(given, "urgent")

    assert made is not None
    assert json.loads(base64.b64decode(made["body"]))[:2] == [[[7, 8]], {}]
    assert (made["headers"]["id"], made["headers"]["retries"]) == (given["headers"]["id"], 2)
    assert (made["properties"]["delivery_tag"], made["properties"]["delivery_info"]["routing_key"]) == ("tag", "urgent")
    assert "somebody's" not in made["headers"]


@pytest.mark.parametrize(
    ("wait_s", "given", "handed"),
    [
        pytest.param(5, True, True, id="a wait of seconds is Celery's"),
        pytest.param(-5, True, False, id="one that is over is none"),
        pytest.param(3600, False, None, id="a long one is the table's"),
    ],
)
def test_a_wait_is_celerys_only_while_it_is_short(wait_s: int, given: bool, handed: bool | None):
    made = handed_over(envelope([1], {"eta": (NOW + timedelta(seconds=wait_s)).isoformat()}))

    assert (made is not None) is given
    assert made is None or bool(made["headers"]["eta"]) is handed


@pytest.mark.parametrize(
    ("made", "field"),
    [
        pytest.param(envelope([1], {"timelimit": "x"}), "timelimit", id="timelimit"),
        pytest.param(envelope([1], {"timelimit": [float("nan"), None]}), "timelimit", id="a time limit of NaN"),
        pytest.param(envelope([1], {"retries": 10**30}), "retries", id="many retries"),
        pytest.param(envelope([1], {"retries": True}), "retries", id="true is no number"),
        pytest.param(envelope([1], {"id": ["x"]}), "id", id="an id that is a list"),
        pytest.param(envelope([1], {"id": "a\nb"}), "id", id="an id of two lines"),
        pytest.param(envelope([1], {"eta": "0001-01-01T00:00:00+23:59"}), "eta", id="before the first year"),
        pytest.param(envelope([1], {"expires": 5}), "expires", id="expires"),
        pytest.param(envelope([1], {"stamps": {"a": {}}}), "stamps", id="stamps"),
        pytest.param(envelope([1], {}, {"delivery_info": "x"}), "delivery_info", id="delivery_info"),
        pytest.param(envelope([1], {}, {"delivery_tag": ["x"]}), "delivery_tag", id="delivery_tag"),
        pytest.param(envelope([1], {}, {"body_encoding": 5}), "body_encoding", id="body_encoding"),
        pytest.param(envelope([1], {}, {"priority": float("inf")}), "priority", id="priority"),
        pytest.param(envelope([1], **{"content-encoding": {}}), "content-encoding", id="content-encoding"),
    ],
)
def test_a_field_that_celery_cannot_read_is_named_and_the_tasks_are_known_all_the_same(made: dict[str, Any], field: str):
    meaning = understand(json.dumps(made).encode())

    assert handed_over(made) is None
    if field == "body_encoding":
        assert meaning == NotUnderstood("the body is not JSON")
    else:
        assert isinstance(meaning, NamesTasks)
        assert field in meaning.flaw


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([[[1], 2], {}, {}], id="a second argument"),
        pytest.param([[[1]], {"task_ids": [2]}, {}], id="the ids twice"),
        pytest.param([[[1]], {}, {"callbacks": [{"task": "x"}]}], id="a callback"),
        pytest.param([[[1]], {}, {"chord": {"task": "x"}}], id="a chord"),
        pytest.param([[[1]], {}, {"args": [1]}], id="a name that would overwrite the task's own"),
        pytest.param([[list(range(1, MOST_IDS + 2))], {}, {}], id="very many ids"),
    ],
)
def test_a_body_that_wants_more_than_to_be_embedded_is_not_handed_over(body: Any):
    assert handed_over(envelope([1], body=base64.b64encode(json.dumps(body).encode()).decode())) is None


@pytest.mark.parametrize("pack", [zlib.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_a_compressed_body_is_read_up_to_a_bound(pack):
    kind = {zlib.compress: "application/x-gzip", bz2.compress: "application/x-bz2", lzma.compress: "application/x-lzma"}[pack]

    def packed(body: bytes) -> bytes:
        made = envelope([1], {"compression": kind}, body=base64.b64encode(pack(body)).decode())
        return json.dumps(made).encode()

    assert understand(packed(b"[[[5]], {}, {}]")) == NamesTasks((5,))
    assert understand(packed(b" " * (LARGEST_BYTES + 1) + b"[[[5]], {}, {}]")) == NotUnderstood(
        "the body cannot be decompressed"
    )


def test_what_is_larger_than_any_message_of_ours_is_not_even_parsed():
    assert understand(b"[" + b"[]," * 4_000_000 + b"1]") == NotUnderstood("the message is larger than 4 MB")


def test_a_reason_is_plain_text_whatever_the_message_says():
    odd = "\x1b[2J\x00\n‮\ud800"

    for made in (envelope([1], {"task": odd}), envelope([1], **{"content-type": odd})):
        meaning = understand(json.dumps(made).encode())
        assert isinstance(meaning, NotUnderstood)
        assert meaning.reason.isascii()
        assert meaning.reason.isprintable()


def test_another_programs_ids_can_be_asked_for_in_the_database():
    body = [["a\x00b", "\ud800", "x" * 5000, 7], {}, {}]
    made = envelope([1], {"task": "app.embed"}, body=base64.b64encode(json.dumps(body).encode()).decode())

    assert understand(json.dumps(made).encode()) == NamesArticles("app.embed", ("ab", "7"))


@given(st.binary() | st.text())
def test_what_is_shown_is_printable_ascii(value):
    shown = escaped(value)

    assert shown.isascii()
    assert shown == "" or shown.isprintable()


@pytest.mark.parametrize(
    ("held", "fine"),
    [
        pytest.param([envelope([1]), "embedq", "low"], True, id="ours"),
        pytest.param([envelope([1], {"task": "theirs"}), "celery", "mail"], True, id="another program's"),
        pytest.param(5, False, id="a number"),
        pytest.param([5, "embedq", "low"], False, id="a number in place of the message"),
        pytest.param([envelope([1]), None, "low"], False, id="no exchange"),
        pytest.param([envelope([1], {}, {"delivery_info": "x"}), "embedq", "low"], False, id="no delivery_info"),
        pytest.param([envelope([1], {}, {"priority": float("inf")}), "embedq", "low"], False, id="no priority"),
        pytest.param(
            [envelope([1], {"x": {"__type__": "bytes", "__value__": 5}}), "embedq", "low"], False, id="a type of kombu's"
        ),
    ],
)
def test_what_is_found_unacknowledged_is_put_back_only_when_kombu_can(held: Any, fine: bool):
    assert is_restorable(json.dumps(held).encode()) is fine


# Remote control -------------------------------------------------------------------------------------------------------------------

COMMAND = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None}
REPLY_TO = {"exchange": "reply.celery.pidbox", "routing_key": "a-b-c"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="to all"),
        pytest.param({"destination": ["a@b"], "ticket": "t", "reply_to": REPLY_TO}, id="to one, with an answer"),
        pytest.param({"pattern": "a*", "matcher": "glob"}, id="by pattern"),
        pytest.param({"method": "add_consumer", "arguments": {"queue": "low"}}, id="a queue of ours"),
        pytest.param(
            {"method": "revoke", "arguments": {"task_id": ["x"], "terminate": False, "signal": "SIGTERM"}}, id="revoke"
        ),
        pytest.param(
            {"method": "rate_limit", "arguments": {"task_name": "embedq.embed", "rate_limit": "10/m"}}, id="rate limit"
        ),
        pytest.param({"method": "shutdown"}, id="shutdown"),
    ],
)
def test_a_command_in_order_is_obeyed(changes: dict[str, Any]):
    made = control.command_of(json.dumps(COMMAND | changes))

    assert isinstance(made, dict)
    assert made | {"x": 1} == {"reply_to": None, "ticket": None} | COMMAND | changes | {"x": 1}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(5, id="a number"),
        pytest.param([], id="a list"),
        pytest.param({}, id="nothing"),
        pytest.param(COMMAND | {"method": ["ping"]}, id="a method that is a list"),
        pytest.param(COMMAND | {"method": "objgraph"}, id="a command that ours do not obey"),
        pytest.param(COMMAND | {"arguments": 5}, id="arguments that are a number"),
        pytest.param(COMMAND | {"destination": 5}, id="a destination that is a number"),
        pytest.param(COMMAND | {"pattern": "(a+)+$", "matcher": "pcre"}, id="a regular expression"),
        pytest.param(COMMAND | {"reply_to": 5}, id="an answer to a number"),
        pytest.param(
            COMMAND | {"reply_to": {"exchange": "embedq", "routing_key": "urgent"}}, id="an answer into a queue of ours"
        ),
        pytest.param(COMMAND | {"method": "add_consumer", "arguments": {"queue": ["x"]}}, id="a queue that is a list"),
        pytest.param(COMMAND | {"method": "add_consumer", "arguments": {"queue": "theirs"}}, id="another program's queue"),
        pytest.param(COMMAND | {"method": "add_consumer"}, id="no queue"),
        pytest.param(COMMAND | {"method": "pool_grow", "arguments": {"n": 10**9}}, id="a pool of a billion"),
        pytest.param(
            COMMAND | {"method": "rate_limit", "arguments": {"task_name": "x", "rate_limit": "nan"}},
            id="a rate that is no number",
        ),
    ],
)
def test_a_command_that_is_not_in_order_is_ignored(body: Any):
    assert isinstance(control.command_of(json.dumps(body)), str)


@given(
    st.dictionaries(st.sampled_from([*COMMAND, "reply_to", "ticket"]), VALUE | st.sampled_from(sorted(control.COMMANDS)))
    | VALUE
)
def test_no_command_is_too_odd(body: Any):
    assert isinstance(control.command_of(json.dumps(body)), str | dict)


@given(st.binary() | VALUE.map(lambda value: json.dumps({"body": value}).encode()) | RAW)
def test_no_bytes_on_the_channel_are_too_odd(data: bytes):
    assert isinstance(control.made_anew(data, "tag"), str)


@pytest.mark.parametrize("clock", ["x", float("nan"), -1, 10**30, True, None, [1]])
def test_a_clock_that_is_none_counts_as_zero(clock: Any):
    assert control.clock_of({"clock": clock}) == 0
