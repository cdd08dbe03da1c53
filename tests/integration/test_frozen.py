"""A worker that is stopped (SIGSTOP) in the middle of a statement: operators and writers get past it within seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from embedq.model import Delivery
from embedq.steward import frozen_sessions
from tests.support import Process, run_command, start_poller, until

# PostgreSQL sends this much into no program's buffers: 40 texts of half a million characters.
LONG, NUMBER = 500_000, 40
AUDITED = "SELECT count(*) FROM embedding_audit_logs WHERE category = 'session' AND message LIKE '%%frozen session%%'"


@pytest.fixture
def frozen(environment, psql) -> Iterator[Callable[[str], Process]]:
    """A worker stopped in the middle of a `claim`, or of the `copy` of its vectors."""
    started: list[Process] = []

    def freeze(where: str) -> Process:
        psql("UPDATE embedding_worker_status SET mode = 'database'")
        length = LONG if where == "claim" else 10
        psql(
            "INSERT INTO articles (id, content) SELECT 'a' || i, repeat('x', %s) FROM generate_series(1, %s) AS i",
            length,
            NUMBER,
        )
        started.append(
            Process("frozen", [sys.executable, "-m", "tests.frozen", environment["DATABASE_URL"], where], environment)
        )
        started[0].says("frozen")
        until(
            lambda: psql(IN_A_STATEMENT) == [("ClientWrite" if where == "claim" else "ClientRead",)],
            why="it is not where it should be",
        )
        return started[0]

    yield freeze
    for process in started:
        process.kill()


IN_A_STATEMENT = """SELECT wait_event FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'embedq poller' AND state = 'active' AND wait_event_type = 'Client'"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("mode", "celery"), id="mode"),
        pytest.param(("rollback", "emergency"), id="emergency"),
        pytest.param(("stop",), id="stop"),
        pytest.param(("pause", "--priority", "low"), id="pause"),
        pytest.param(("maintenance", "start"), id="maintenance"),
        pytest.param(("throttle", "--rate", "600/min"), id="throttle"),
        pytest.param(("emergency-stop",), id="emergency-stop"),
    ],
)
def test_no_operator_waits_behind_a_claim_of_a_frozen_worker(frozen, environment, psql, another, command):
    frozen("claim")
    started = time.monotonic()

    ran = run_command(environment, *command, "--yes", "--reason", "a test", timeout_s=60)

    assert ran.returncode == 0, ran.stderr
    assert time.monotonic() - started < 25
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'processing'") == [(0,)]
    assert psql("SELECT count(*) FROM embedding_audit_logs WHERE metadata ? 'sessions_ended'") == [(1,)]
    psql("UPDATE embedding_worker_status SET mode = 'database', is_running = true")
    assert another(Delivery.POLLER).claim(limit=1)


def test_emergency_stop_takes_the_tasks_of_a_worker_that_is_frozen_in_its_settle(frozen, environment, psql):
    frozen("copy")

    ran = run_command(environment, "emergency-stop", "--yes", "--reason", "a test", timeout_s=60)

    assert ran.returncode == 0, ran.stderr
    assert psql("SELECT status, count(*) FROM embedding_tasks GROUP BY 1") == [("pending", NUMBER)]


@pytest.mark.parametrize("where", ["copy", "claim"])
def test_a_steward_ends_what_a_frozen_worker_holds_and_no_writer_or_operator_waits_for_ever(
    frozen, environment, psql, session, where
):
    frozen(where)
    waiting = session()
    by_hand = (
        "UPDATE embedding_worker_status SET is_running = false" if where == "claim" else "DELETE FROM articles WHERE id = 'a1'"
    )
    result = waiting.begin(by_hand)
    waiting.until_it_waits()

    with start_poller(environment, ready=False):
        result.result(40)
        waiting.commit()
        until(lambda: psql(AUDITED) == [(1,)], 5, "the end of the session is not on record")


def test_a_session_of_an_application_is_never_ended_for_an_operator_or_the_steward(psql, store, session):
    application = session()
    application.do("SELECT set_config('application_name', 'the embedq-shop', false)")
    application.do("INSERT INTO articles (id, content) VALUES ('a', 'one')")
    application.do("SELECT pg_advisory_xact_lock_shared(embedq_fence_key())")
    time.sleep(0.1)

    seen = store.fence.holders(fence=True, tables=True, end=True, stuck_s=0.0)

    assert [(each["pid"], each["ours"], each["ended"]) for each in seen] == [(application.pid, False, False)]
    application.commit()
    assert psql("SELECT count(*) FROM articles") == [(1,)]


def test_a_slow_copy_that_gets_on_is_left_alone_and_one_that_does_not_is_ended(database_url, psql, store, monkeypatch):
    monkeypatch.setattr(frozen_sessions, "SILENT_S", 0.0)
    look = frozen_sessions.FrozenSessions(store).end_those_still_frozen
    copied = "SELECT coalesce(max(bytes_processed), 0) FROM pg_stat_progress_copy"
    with psycopg.connect(database_url, application_name="embedq poller") as slow:
        copy = slow.cursor().copy("COPY article_texts (id, content) FROM STDIN")
        sink = copy.__enter__()
        ended, so_far = [], 0
        for number in range(3):
            sink.write(f"a{number}\t{'x' * 100_000}\n")
            until(lambda so_far=so_far: psql(copied)[0][0] > so_far, why="nothing arrived")
            until(lambda: psql(IN_A_STATEMENT) == [("ClientRead",)], why="it does not wait for more")
            so_far = psql(copied)[0][0]
            ended.append(look())
        ended.append(look())
        with contextlib.suppress(psycopg.Error):
            copy.__exit__(None, None, None)

    assert ended == [0, 0, 0, 1]
