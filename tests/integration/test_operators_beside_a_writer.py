"""An application's transaction that stays open with an article in flight: an operator is done in seconds, and the application is never ended."""

from __future__ import annotations

import base64
import json
import time

import pytest

from embedq.model import Delivery
from embedq.steward.hand_over import hand_over
from embedq.store.bulk import Act, Picked
from tests.support import run_command, until

NUMBER = 10
SECONDS = 20.0
IN_FLIGHT = Picked(("processing",))
ACT = Act("hand_back", "hand over", "ann", "a test", {"words": "handed over"})
STATES = "SELECT status, count(*) FROM embedding_tasks GROUP BY 1 ORDER BY 1"
PATIENCE_S = 300.0


@pytest.fixture
def in_flight(psql, add, another):
    """Ten tasks that a living Celery worker holds."""
    psql("UPDATE embedding_worker_status SET mode = 'celery'")
    add(*(f"a{number}" for number in range(NUMBER)))
    worker = another(Delivery.CELERY)
    tasks = worker.claim()
    assert len(tasks) == NUMBER
    return worker, tasks


@pytest.fixture
def writer(session):
    """An application's transaction that has edited a3 and deleted a4, and is open."""
    made = session()
    made.do("SELECT set_config('application_name', 'shop', false)")
    made.do("UPDATE articles SET content = 'two' WHERE id = 'a3'")
    made.do("DELETE FROM articles WHERE id = 'a4'")
    return made


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_all_else_is_handed_over_and_the_rest_when_the_writer_ends(psql, store, in_flight, writer, ends):
    worker, tasks = in_flight
    began = time.monotonic()

    done = hand_over(store, IN_FLIGHT, ACT)

    assert time.monotonic() - began < SECONDS
    assert (done.handed, done.taken, done.left, done.ended) == (NUMBER - 2, 1, 1, 0)
    assert [each["pid"] for each in done.in_the_way] == [writer.pid]
    (warning,) = done.warnings()
    assert f"pid {writer.pid} (shop, user " in warning
    assert "two" not in warning

    getattr(writer.connection, ends)()
    late = worker.settle_done(*tasks)
    store.tasks.rescue(PATIENCE_S)

    assert late.late >= NUMBER - 1
    open_articles = psql("SELECT DISTINCT article_id FROM embedding_tasks WHERE status = 'pending' ORDER BY 1")
    assert ("a3",) in open_articles
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'processing'") == [(0,)]


def test_a_writer_that_goes_on_to_other_articles_in_flight_does_not_pay_for_our_locks(
    psql, store, in_flight, writer, in_thread
):
    handing = in_thread(hand_over, store, IN_FLIGHT, ACT)
    for number in (9, 0, 7, 1, 8, 2):
        writer.do("UPDATE articles SET content = 'two' WHERE id = %s", f"a{number}")
        writer.do("DELETE FROM articles WHERE id = %s", f"a{number}")
    writer.commit()

    handing.result(SECONDS)
    store.tasks.rescue(PATIENCE_S)

    assert psql("SELECT id FROM articles ORDER BY 1") == [("a3",), ("a5",), ("a6",)]
    waiting = psql("SELECT article_id FROM embedding_tasks WHERE status IN ('pending', 'processing') ORDER BY 1")
    assert waiting == [("a3",), ("a5",), ("a6",)]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("rollback", "emergency", "--grace", "0.5"), id="emergency"),
        pytest.param(("rollback", "planned", "--wait", "0.5", "--grace", "0.5"), id="planned"),
        pytest.param(("mode", "database", "--wait", "--timeout", "0.5"), id="mode"),
        pytest.param(("emergency-stop",), id="emergency-stop"),
        pytest.param(("reset-stuck", "--older-than", "0"), id="reset-stuck"),
    ],
)
def test_a_command_ends_in_seconds_and_says_who_is_in_the_way(psql, environment, in_flight, session, command):
    writer = session()
    writer.do("UPDATE articles SET content = 'two' WHERE id = 'a3'")
    began = time.monotonic()

    ran = run_command(environment, *command, "--yes", "--reason", "a test", "--json", timeout_s=90)

    assert time.monotonic() - began < 2 * SECONDS
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"pid {writer.pid} " in ran.stdout + ran.stderr or command[0] == "reset-stuck"
    assert psql(STATES) == [("pending", NUMBER - 1), ("processing", 1)]
    assert psql("SELECT lease_holder FROM embedding_tasks WHERE status = 'processing'") == [(0,)]
    writer.commit()
    until(lambda: psql("SELECT count(*) FROM articles WHERE content = 'two'") == [(1,)], why="the writer's text")


def test_a_drain_does_not_wait_for_the_writer_of_an_article_that_a_message_names(psql, store, session, in_thread):
    psql("SET embedq.mode = 'off'")
    psql("INSERT INTO articles (id, content) VALUES ('a1', 'one'), ('a2', 'one')")
    writer = session()
    writer.do("UPDATE articles SET content = 'two' WHERE id = 'a1'")
    messages = [message_about(article) for article in ("a1", "a2")]

    took = in_thread(store.rejected.take, "normal", messages).result(10)
    writer.commit()

    assert (took.messages, took.rejected) == (2, 0)
    assert psql("SELECT article_id FROM embedding_tasks WHERE status = 'pending' ORDER BY 1") == [("a1",), ("a2",)]


def message_about(article: str) -> bytes:
    """Another program's, as Celery writes it."""
    body = base64.b64encode(json.dumps([[article], {}, {}]).encode()).decode()
    headers = {"task": "another.embed_document", "id": article}
    return json.dumps(
        {"body": body, "headers": headers, "content-type": "application/json", "properties": {"body_encoding": "base64"}}
    ).encode()
