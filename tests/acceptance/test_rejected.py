"""What an operator does with broker messages that nobody understood: see, try again, review, purge; and the alert ends."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from embedq.cli import embedq
from embedq.store import Store, rejected
from embedq.store.rejected import KEPT_BYTES
from tests.envelopes import envelope

from .operating import answered, invoked

HOSTILE = b'\x1b[2J\x07\xff{"a":\n 1}\xe2\x80\xae'


def about(article: str) -> bytes:
    """Another program's wish to embed an article."""
    body = base64.b64encode(json.dumps([[], {"article_id": article}, {}]).encode()).decode()
    return json.dumps(envelope([1], {"task": "shop.embed"}, body=body)).encode()


def listed(environment: dict[str, str], *words: str) -> list[dict[str, Any]]:
    return answered(environment, "broker", "rejected", "list", *words)["messages"]


def alerts(environment: dict[str, str]) -> int:
    """How many fire: one or none."""
    argv = ["alerts", "check", "--only", "rejected-messages", "--json"]
    return int(json.loads(CliRunner().invoke(embedq, argv, env=environment).stdout)["firing"])


def audited(psql: Callable[..., Any], like: str) -> list[tuple[str, str]]:
    return psql("SELECT metadata->>'reason', metadata->>'who' FROM embedding_audit_logs WHERE message LIKE %s", like)


def test_the_last_fifty_are_listed_and_how_many_there_are(environment, store: Store):
    for number in range(60):
        store.rejected.take("low", [b"poison %d" % number])

    said = invoked(environment, "broker", "rejected", "list").stdout
    few = answered(environment, "broker", "rejected", "list", "--limit", "2")

    assert "50 of 60" in said
    assert (few["shown"], few["of"], len(few["messages"])) == (2, 60, 2)
    assert {"id", "queue", "reason", "bytes", "seen", "received_at", "last_at", "reviewed_at"} == few["messages"][0].keys()


def test_a_message_is_shown_escaped_with_why_when_and_how_large(environment, store: Store):
    store.rejected.take("urgent", [HOSTILE, HOSTILE])
    ((row,), _) = store.rejected.listed(1)

    said = invoked(environment, "broker", "rejected", "show", str(row["id"])).stdout
    told = answered(environment, "broker", "rejected", "show", str(row["id"]))

    assert r'\x1b[2J\x07\udcff{"a":\n 1}\u202e' in said
    assert all(each.isprintable() or each == "\n" for each in said)
    assert (told["seen"], told["bytes"], told["whole"], told["reason"]) == (2, len(HOSTILE), True, "the message is not JSON")
    assert base64.b64decode(told["raw_base64"]) == HOSTILE
    invoked(environment, "broker", "rejected", "show", "999999", code=1)


def test_of_a_large_message_a_prefix_is_kept_and_the_same_one_is_known_again(environment, store: Store):
    large, other = b"x" * 1_000_000, b"x" * 999_999 + b"y"

    store.rejected.take("low", [large, large, other])
    store.rejected.take("low", [large])

    rows = {row["seen"]: row for row in listed(environment)}
    told = answered(environment, "broker", "rejected", "show", str(rows[3]["id"]))
    assert rows.keys() == {1, 3}
    assert (told["bytes"], told["whole"], len(told["raw"])) == (1_000_000, False, KEPT_BYTES)
    kept = store.database.fetch("SELECT digest FROM embedding_rejected_messages WHERE seen = 3")
    assert bytes(kept[0]["digest"]) == hashlib.sha256(large).digest()


def test_a_flood_takes_a_bounded_number_of_rows_and_the_rest_is_counted(environment, store: Store, monkeypatch):
    monkeypatch.setattr(rejected, "MOST_ROWS", 10)

    for number in range(0, 100, 20):
        store.rejected.take("low", [b"poison %d" % (number + each) for each in range(20)])
    store.rejected.take("low", [b"poison 3", b"another"])

    rows = {row["reason"]: row for row in listed(environment)}
    assert len(listed(environment)) == 11
    assert rows[rejected.FULL]["seen"] == 91
    assert sum(row["seen"] for row in listed(environment)) == 102


def test_the_alert_ends_with_the_review_and_begins_again_when_the_message_comes_again(environment, store: Store, psql):
    store.rejected.take("low", [b"one", b"two"])
    first = listed(environment)[0]["id"]
    assert alerts(environment) == 1

    invoked(environment, "broker", "rejected", "review", str(first), "--reason", "a test of theirs")
    assert alerts(environment) == 1
    invoked(environment, "broker", "rejected", "review", "--all", "--reason", "the other too")

    assert alerts(environment) == 0
    assert listed(environment) == []
    assert len(listed(environment, "--all")) == 2
    assert store.rejected.count() == 0
    assert [reason for reason, who in audited(psql, "%reviewed") if who] == ["a test of theirs", "the other too"]
    store.rejected.take("low", [b"one"])
    assert alerts(environment) == 1


def test_a_retry_makes_of_a_message_what_it_is_worth_by_now(environment, store: Store, psql):
    psql("UPDATE embedding_worker_status SET mode = 'celery', dispatch_held = true")
    store.rejected.take(
        "normal", [about("later"), json.dumps(envelope([10**9], {"timelimit": "x"})).encode(), b"nothing at all"]
    )
    psql("INSERT INTO articles (id, content) VALUES ('later', 'text')")
    psql("UPDATE embedding_tasks SET status = 'failed', completed_at = now()")
    psql("INSERT INTO articles (id, content) VALUES ('held', 'text')")
    psql("DELETE FROM embedding_tasks WHERE article_id = 'later'")
    psql("UPDATE embedding_tasks SET dispatched_at = now()")
    ((task,),) = psql("SELECT id FROM embedding_tasks")
    flawed = json.dumps(envelope([task], {"retries": "x"})).encode()
    store.rejected.take("normal", [flawed])
    psql("UPDATE embedding_tasks SET dispatched_at = now()")

    done = answered(environment, "broker", "rejected", "retry", "--all", "--reason", "they are back", code=1)

    assert (done["retried"], done["freed"], done["made"]) == (2, 1, 1)
    assert {row["why"] for row in done["useless"]} == {
        "its header timelimit is not what Celery can read",
        "the message is not JSON",
    }
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NULL") == [(2,)]
    assert {row["reason"] for row in listed(environment)} >= {"the message is not JSON"}
    assert audited(psql, "%retried%")[0][0] == "they are back"


def test_what_is_kept_in_part_cannot_be_retried(environment, store: Store):
    store.rejected.take("normal", [b"x" * (KEPT_BYTES + 1)])

    done = answered(environment, "broker", "rejected", "retry", "--all", code=1)

    assert "are kept" in done["useless"][0]["why"]


def test_a_purge_asks_and_deletes_what_was_reviewed_or_named_or_everything(environment, store: Store, psql):
    store.rejected.take("low", [b"one", b"two", b"three"])
    ids = [row["id"] for row in listed(environment)]
    invoked(environment, "broker", "rejected", "review", str(ids[0]))

    invoked(environment, "broker", "rejected", "purge", code=2)
    planned = answered(environment, "broker", "rejected", "purge", "--all", "--dry-run")
    reviewed = answered(environment, "broker", "rejected", "purge", "--yes", "--reason", "in May")
    named = answered(environment, "broker", "rejected", "purge", str(ids[1]), "--yes")
    invoked(environment, "broker", "rejected", "purge", str(ids[1]), "--yes", code=1)
    everything = answered(environment, "broker", "rejected", "purge", "--all", "--yes")

    assert planned == {"would_purge": 3}
    assert [answer["purged"] for answer in (reviewed, named, everything)] == [1, 1, 1]
    assert audited(psql, "%purged")[0][0] == "in May"
    assert alerts(environment) == 0


@pytest.mark.parametrize(
    "words", [("review",), ("retry",), ("review", "1", "--all"), ("purge", "1", "--all", "--yes")], ids=" ".join
)
def test_a_command_that_names_nothing_or_too_much_is_misused(environment, words: tuple[str, ...]):
    invoked(environment, "broker", "rejected", *words, code=2)


def test_cleanup_removes_what_was_reviewed_long_ago_and_nothing_else(environment, store: Store, psql):
    store.rejected.take("low", [b"one", b"two", b"three"])
    psql("UPDATE embedding_rejected_messages SET received_at = now() - interval '99 days'")
    psql("UPDATE embedding_rejected_messages SET reviewed_at = now() - interval '40 days' WHERE raw = 'one'")
    psql("UPDATE embedding_rejected_messages SET reviewed_at = now() WHERE raw = 'two'")

    planned = answered(environment, "cleanup", "--dry-run")
    invoked(environment, "cleanup", "--yes")

    assert planned["would_remove"]["rejected"] == 1
    assert psql("SELECT raw FROM embedding_rejected_messages ORDER BY id") == [(b"two",), (b"three",)]


def test_what_the_previous_version_writes_is_taken_as_before(store: Store, psql):
    statement = """INSERT INTO embedding_rejected_messages AS r (queue, reason, raw, seen) VALUES ('low', 'not JSON', 'x', 1)
                   ON CONFLICT (queue, digest) DO UPDATE SET seen = r.seen + excluded.seen"""
    psql(statement)
    psql(statement)
    store.rejected.take("low", [b"x"])

    ((row,), total) = store.rejected.listed(10)
    assert (total, row["seen"], row["bytes"]) == (1, 3, 1)
