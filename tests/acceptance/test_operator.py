"""What the operator on call does to tasks: by the commands, on a real PostgreSQL, beside claims and writers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from embedq import wiring
from embedq.cli import embedq
from embedq.engine.runs import NextDue
from embedq.model import Claimed, Delivery, Mode, Outcome, Priority, TaskStatus
from embedq.store import Store
from embedq.store.bulk import Act, Picked
from tests.forked import python
from tests.support import until

Run = Callable[..., Result]


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """A command in this process; its exit code must be the expected one."""

    def invoke(*words: str, code: int = 0, given: str | None = None) -> Result:
        result = CliRunner().invoke(embedq, words, env=environment, input=given)
        assert result.exit_code == code, result.output + repr(result.exception)
        return result

    return invoke


@pytest.fixture
def told(run: Run) -> Callable[..., Any]:
    """The same, its answer as JSON."""
    return lambda *words, code=0: json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture
def worker(store: Store) -> int:
    store.status.set_mode(Mode.DATABASE, "test", "test")
    return store.workers.register("poller", "w1", [], 600)


def claimed(store: Store, worker: int, limit: int = 100) -> list[Claimed]:
    return store.tasks.claim_due(worker, Delivery.POLLER, list(Priority), limit)


def settled(store: Store, worker: int, tasks: list[Claimed], status: TaskStatus, error: str | None = None, kind: str = "Boom"):
    outcomes = [Outcome(task, status, charged=True, error_class=kind if error else None, message=error) for task in tasks]
    return store.tasks.settle(worker, "w1", outcomes)


@pytest.fixture
def embed_all(settings) -> Callable[[], None]:
    """Everything that is due is embedded, by a real engine in this process."""

    def embed() -> None:
        parts = wiring.worker_parts(replace(settings, worker_timeout_ms=60_000), "poller")
        parts.worker.start()
        try:
            while parts.engine.run(NextDue()).claimed:
                pass
        finally:
            parts.close()

    return embed


def articles(psql, count: int, prefix: str = "a", tenant: str = "default") -> None:
    psql(
        f"INSERT INTO articles (id, tenant_id, title, content) SELECT '{prefix}' || n, '{tenant}', 'Tea ' || n, 'text ' || n"
        f" FROM generate_series(1, {count}) n"
    )


def statuses(psql) -> dict[str, int]:
    return dict(psql("SELECT status, count(*) FROM embedding_tasks GROUP BY status"))


def audited(psql, category: str) -> list[dict[str, Any]]:
    return [row[0] for row in psql("SELECT metadata FROM embedding_audit_logs WHERE category = %s ORDER BY id", category)]


def wait_until(fact: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, f"not seen within {within_s:g} s"
        time.sleep(0.01)


# Fences ----------------------------------------------------------------------------------------------------------------------------


def test_after_stop_nothing_can_be_claimed_and_start_lets_claims_go_on(run, store, worker, psql):
    articles(psql, 3)

    run("stop", "--reason", "the provider is replaced")
    while_stopped = claimed(store, worker)
    run("start")

    assert while_stopped == []
    assert len(claimed(store, worker)) == 3
    (line,) = audited(psql, "stop")
    assert line["reason"] == "the provider is replaced"
    assert (line["before"], line["after"]) == ({"is_running": True}, {"is_running": False})
    assert "@" in line["who"]
    assert len(audited(psql, "start")) == 1


def test_a_paused_priority_or_tenant_waits_and_the_others_go_on(run, told, store, worker, psql):
    articles(psql, 2)
    articles(psql, 2, "b", "acme")
    psql("UPDATE embedding_tasks SET priority = 'low' WHERE article_id = 'a1'")

    told("pause", "--priority", "low", "--tenant", "acme")
    first = [task.article_id for task in claimed(store, worker)]
    told("resume", "--tenant", "acme")
    second = sorted(task.article_id for task in claimed(store, worker))
    told("resume")

    assert first == ["a2"]
    assert second == ["b1", "b2"]
    assert [task.article_id for task in claimed(store, worker)] == ["a1"]
    assert audited(psql, "pause")[0]["after"] == {"priorities": ["low"], "tenants": ["acme"]}
    assert len(audited(psql, "resume")) == 2


def test_pause_with_nothing_named_pauses_all_priorities(told):
    paused = told("pause")["paused"]

    assert paused == {"priorities": ["high", "low", "normal", "urgent"], "tenants": []}


def test_emergency_stop_hands_back_what_is_in_flight_and_late_results_are_discarded(told, store, worker, psql):
    articles(psql, 5)
    in_flight = claimed(store, worker, 3)

    answer = told("emergency-stop", "--yes", "--reason", "wrong model")
    late = settled(store, worker, in_flight, TaskStatus.FAILED, "too late")

    assert answer["handed_back"] == 3
    assert statuses(psql) == {"pending": 5}
    assert (late.late, late.states) == (3, {})
    assert claimed(store, worker) == []
    assert psql("SELECT sum(attempts) FROM embedding_tasks") == [(0,)]
    assert audited(psql, "emergency-stop")[0]["counts"] == {"pending": 3}


def test_emergency_stop_ends_sessions_of_workers_that_hang_in_a_claim_or_on_a_task(told, store, worker, psql, database_url):
    articles(psql, 2)
    (task, _) = claimed(store, worker)
    in_claim, in_settle = (psycopg.connect(database_url, application_name="embedq poller") for _ in range(2))
    in_claim.execute("SELECT pg_advisory_xact_lock_shared(embedq_fence_key())")
    in_settle.execute("SELECT FROM embedding_tasks WHERE id = %s FOR UPDATE", [task.id])

    answer = told("emergency-stop", "--yes")

    assert (answer["sessions_ended"], answer["left"], answer["taken"]) == (2, 0, 0)
    assert psql("SELECT is_running FROM embedding_worker_status") == [(False,)]
    assert statuses(psql) == {"pending": 2}
    for ended in (in_claim, in_settle):
        with pytest.raises(psycopg.OperationalError):
            ended.execute("SELECT 1")
        ended.close()


def test_a_stop_that_cannot_pass_the_fence_says_who_holds_it(run, psql, database_url):
    with psycopg.connect(database_url, application_name="a report") as held_by_hand:
        held_by_hand.execute("UPDATE embedding_worker_status SET reason = 'a secret reason' WHERE id = 1")

        result, pid = run("stop", code=3), held_by_hand.info.backend_pid

    assert f"pid {pid} (a report, user " in result.stderr
    assert "UPDATE embedding_worker_status SET reason =" in result.stderr
    assert "secret" not in result.stderr
    assert "nothing was changed" in result.stderr
    assert psql("SELECT is_running FROM embedding_worker_status") == [(True,)]


# Cancel and clear --------------------------------------------------------------------------------------------------------------------


def test_cancel_takes_tasks_away_from_a_batch_under_way(told, store, worker, psql):
    articles(psql, 3)
    tasks = claimed(store, worker)

    answer = told("cancel", str(tasks[0].id), tasks[1].article_id, "--reason", "withdrawn")
    late = settled(store, worker, tasks, TaskStatus.FAILED, "x")

    assert answer["states"] == {"cancelled": 2}
    assert late.states == {tasks[2].id: "failed"}
    assert statuses(psql) == {"cancelled": 2, "failed": 1}
    assert audited(psql, "cancel")[0]["counts"] == {"cancelled": 2}


def test_cancel_of_something_unknown_does_nothing(run, psql):
    articles(psql, 1)

    result = run("cancel", "a1", "nobody", code=1)

    assert "nobody" in result.stderr
    assert statuses(psql) == {"pending": 1}


def test_clear_clears_exactly_what_all_its_filters_name(told, psql):
    articles(psql, 4)
    articles(psql, 4, "b", "acme")
    psql("UPDATE embedding_tasks SET priority = 'low' WHERE article_id IN ('a1', 'a2', 'b1', 'b2')")
    psql("UPDATE embedding_tasks SET metadata = metadata || '{\"reason\": \"import\"}' WHERE article_id IN ('a1', 'b1')")
    filters = ("--status", "pending", "--priority", "low", "--tenant", "acme", "--made-for", "import")

    planned = told("clear", *filters, "--dry-run")
    unchanged = statuses(psql)
    told("clear", *filters, "--reason", "too much", "--yes")

    assert planned["tasks"] == 1
    assert unchanged == {"pending": 8}
    assert psql("SELECT article_id FROM embedding_tasks WHERE status = 'cancelled'") == [("b1",)]
    assert audited(psql, "clear")[0]["reason"] == "too much"
    assert audited(psql, "clear")[0]["filter"]["task_reason"] == "import"


def test_clear_deletes_finished_tasks_only_when_their_status_is_named(told, store, worker, psql):
    articles(psql, 4)
    settled(store, worker, claimed(store, worker, 2), TaskStatus.FAILED, "x")

    told("clear", "--all", "--yes")
    after_all = statuses(psql)
    told("clear", "--status", "failed", "--yes")

    assert after_all == {"cancelled": 2, "failed": 2}
    assert statuses(psql) == {"cancelled": 2}
    assert psql("SELECT count(*) FROM articles") == [(4,)]


def test_clear_without_a_filter_is_refused(run):
    assert "--all" in run("clear", "--yes", code=2).stderr


def test_clear_works_through_many_tasks_beside_rows_that_others_hold_for_a_while(store, psql, database_url):
    articles(psql, 2500)
    holding = psycopg.connect(database_url)
    holding.execute("SELECT FROM embedding_tasks WHERE article_id IN ('a7', 'a2400') FOR UPDATE")
    release = threading.Timer(0.5, holding.close)
    release.start()

    swept = store.operate.sweep(Picked(("pending",)), Act("cancel_tasks", "clear", "me", values={"words": "cleared"}))
    release.join()

    assert (swept.total, swept.left) == (2500, 0)
    assert statuses(psql) == {"cancelled": 2500}


def test_what_others_keep_locked_is_reported_and_not_waited_for_for_ever(store, psql, database_url):
    articles(psql, 10)
    with psycopg.connect(database_url) as holding:
        holding.execute("SELECT FROM embedding_tasks WHERE article_id = 'a7' FOR UPDATE")

        swept = store.operate.sweep(
            Picked(("pending",)), Act("cancel_tasks", "clear", "me", values={"words": "cleared"}), patience_s=0.2
        )

    assert (swept.total, swept.left) == (9, 1)


# Retry, requeue, dead letters ---------------------------------------------------------------------------------------------------------


def test_retry_gives_a_fresh_allowance_and_keeps_attempts_and_errors(told, store, worker, psql):
    articles(psql, 2)
    settled(store, worker, claimed(store, worker), TaskStatus.FAILED, "the provider said 500")

    answer = told("retry", "a1", "--reason", "fixed")

    assert answer["states"] == {"pending": 1}
    assert psql(
        "SELECT attempts, forgiven_attempts, jsonb_array_length(errors) FROM embedding_tasks WHERE article_id = 'a1'"
    ) == [(1, 1, 1)]
    assert [(task.article_id, task.attempts) for task in claimed(store, worker)] == [("a1", 0)]
    assert audited(psql, "retry")[0]["counts"] == {"pending": 1}


def test_retry_by_error_class_or_message_takes_only_those(told, store, worker, psql):
    articles(psql, 3)
    first, second, third = claimed(store, worker)
    settled(store, worker, [first], TaskStatus.FAILED, "quota of acme", kind="Quota")
    settled(store, worker, [second, third], TaskStatus.FAILED, "text too long", kind="InputRefused")

    by_class = told("retry", "--error", "Quota")
    by_message = told("retry", "--message-like", "too LONG", "--dry-run")

    assert by_class["ids"] == [first.id]
    assert by_message["tasks"] == 2


def test_a_bounded_rate_makes_each_due_a_little_after_the_one_before(told, store, worker, psql):
    articles(psql, 5)
    settled(store, worker, claimed(store, worker), TaskStatus.FAILED, "x")

    told("retry", "--all", "--rate", "0.5")

    spread = psql(
        "SELECT extract(epoch FROM max(scheduled_at) - min(scheduled_at)) FROM embedding_tasks WHERE status = 'pending'"
    )
    assert 7.9 <= float(spread[0][0]) <= 8.5
    assert len(claimed(store, worker)) == 1


def test_a_canary_that_fails_leaves_the_others_alone(run, store, worker, psql):
    articles(psql, 3)
    settled(store, worker, claimed(store, worker), TaskStatus.FAILED, "x")
    psql("""CREATE FUNCTION fails_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.status := 'failed'; NEW.error_message := 'x again'; NEW.completed_at := now(); RETURN NEW; END $$""")
    psql(
        "CREATE TRIGGER zz_fails_again BEFORE UPDATE ON embedding_tasks"
        " FOR EACH ROW WHEN (NEW.status = 'pending') EXECUTE FUNCTION fails_again()"
    )

    result = run("retry", "--all", "--canary", code=3)

    assert "the others were left alone" in result.stderr
    assert psql("SELECT count(*) FROM embedding_tasks WHERE error_message = 'x again'") == [(1,)]


def test_after_a_canary_that_was_embedded_the_rest_follows(told, store, worker, psql, embed_all):
    articles(psql, 3)
    settled(store, worker, claimed(store, worker), TaskStatus.FAILED, "x")
    stop = threading.Event()

    def embedding() -> None:
        while not stop.wait(0.05):
            embed_all()

    thread = threading.Thread(target=embedding)
    thread.start()
    try:
        answer = told("retry", "--all", "--canary", "--canary-timeout", "30")
        told("wait", "--timeout", "30")
    finally:
        stop.set()
        thread.join()

    assert answer["tasks"] == 3
    assert answer["canary"]
    assert statuses(psql) == {"completed": 3}


def test_requeue_only_missing_takes_exactly_what_has_no_vector(told, psql, store, worker, embed_all):
    articles(psql, 6)
    embed_all()
    psql("DELETE FROM embeddings WHERE article_id IN ('a1', 'a2', 'a3')")
    psql("DELETE FROM embedding_tasks WHERE article_id = 'a3'")
    psql("UPDATE embedding_tasks SET status = 'failed' WHERE article_id IN ('a2', 'a5')")

    answer = told("requeue", "--only-missing", "--priority", "high")

    assert (answer["tasks"], answer["made"]) == (2, 1)
    assert psql("SELECT article_id, priority FROM embedding_tasks WHERE status = 'pending' ORDER BY 1") == [
        ("a1", "high"),
        ("a2", "high"),
        ("a3", "high"),
    ]


def test_requeue_takes_the_latest_task_of_an_article_and_no_more_than_the_limit(told, store, worker, psql):
    articles(psql, 3)
    settled(store, worker, claimed(store, worker), TaskStatus.FAILED, "old text")
    psql("UPDATE articles SET content = content || '!'")
    settled(store, worker, claimed(store, worker), TaskStatus.FAILED, "new text")

    answer = told("requeue", "--status", "failed", "--limit", "2")

    assert answer["tasks"] == 2
    assert psql("SELECT DISTINCT error_message FROM embedding_tasks WHERE status = 'pending'") == [("new text",)]
    assert statuses(psql) == {"failed": 4, "pending": 2}


def test_when_a_writer_and_a_requeue_wait_for_each_other_the_writer_goes_on(store, psql, database_url):
    articles(psql, 2)
    psql("UPDATE embedding_tasks SET status = 'failed'")
    psql("CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$")
    psql(
        "CREATE TRIGGER zz_pause BEFORE UPDATE ON embedding_tasks FOR EACH ROW"
        " WHEN (OLD.status = 'failed' AND NEW.status = 'pending' AND NEW.article_id = 'a2') EXECUTE FUNCTION pause()"
    )
    act = Act("revive_tasks", "requeue", "me", values={"rate": None, "priority": None})
    requeue = threading.Thread(target=store.operate.sweep, args=(Picked(("failed",), newest=True), act))

    with psycopg.connect(database_url) as writer:
        writer.execute("UPDATE articles SET content = 'new' WHERE id = 'a2'")
        requeue.start()
        wait_until(lambda: psql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' OR wait_event_type = 'Lock'"))
        # The requeue has a1's task and will want a2's, which this transaction has; now this one wants a1's.
        writer.execute("UPDATE articles SET content = 'new' WHERE id = 'a1'")
    requeue.join()

    assert psql("SELECT article_id, count(*) FROM embedding_tasks WHERE status = 'pending' GROUP BY 1 ORDER BY 1") == [
        ("a1", 1),
        ("a2", 1),
    ]


def test_a_dead_letter_keeps_every_error_and_is_grouped_by_kind(told, store, worker, psql):
    articles(psql, 3)
    for number in range(3):
        settled(store, worker, claimed(store, worker), TaskStatus.FAILED, f"timed out after {number} s")
        if number < 2:
            told("retry", "--all")

    groups = told("dead-letter", "list")
    shown = told("dead-letter", "show", str(groups[0]["examples"][0]))

    assert [(group["error_class"], group["message"], group["tasks"]) for group in groups] == [
        ("Boom", "timed out after N s", 3)
    ]
    assert [error["message"] for error in shown["errors"]] == [f"timed out after {number} s" for number in range(3)]
    assert told("failed", "--details") == groups
    assert len(told("failed")) == 3


def test_a_discarded_dead_letter_is_not_promised_anew_and_can_be_brought_back(run, told, store, worker, psql):
    articles(psql, 2)
    settled(store, worker, claimed(store, worker), TaskStatus.FAILED, "x")

    run("dead-letter", "discard", "a1", code=2)
    told("dead-letter", "discard", "a1", "--yes")
    made = told("reconcile")["made"]
    told("requeue", "--status", "cancelled")

    assert made == 0
    assert psql("SELECT article_id, status, jsonb_array_length(errors) FROM embedding_tasks ORDER BY 1") == [
        ("a1", "pending", 1),
        ("a2", "failed", 1),
    ]
    assert audited(psql, "discard")[0]["counts"] == {"cancelled": 1}


def test_stuck_tasks_are_listed_and_handed_back_uncharged(told, store, worker, psql):
    articles(psql, 3)
    dead = store.workers.register("poller", "dead", [], 600)
    claimed(store, dead, 2)
    (alive,) = claimed(store, worker)
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 minute' WHERE id = %s", dead)

    listed = told("stuck")
    answer = told("reset-stuck")

    assert [row["worker"] for row in listed] == ["dead", "dead"]
    assert answer["states"] == {"pending": 2}
    assert psql("SELECT id FROM embedding_tasks WHERE status = 'processing'") == [(alive.id,)]
    assert psql("SELECT sum(lost_leases) FROM embedding_tasks") == [(0,)]
    assert told("stuck") == []
    assert audited(psql, "reset-stuck")[0]["counts"] == {"pending": 2}


# Export and import ---------------------------------------------------------------------------------------------------------------------


def test_an_export_imported_twice_brings_back_each_promise_once(told, psql, tmp_path):
    articles(psql, 4)
    psql("UPDATE embedding_tasks SET priority = 'high', attempts = 2, error_message = 'busy' WHERE article_id = 'a1'")
    file = tmp_path / "queue.jsonl"
    told("export", str(file))
    psql("DELETE FROM embedding_tasks")
    psql("DELETE FROM articles WHERE id = 'a4'")

    planned = told("import", str(file), "--dry-run")
    first = told("import", str(file))
    second = told("import", str(file))

    assert (planned["made"], first["made"], first["foreign"]) == (3, 3, 1)
    assert first["foreign_lines"] == [[4, "a4"]]
    assert (second.get("made"), second["promised"]) == (None, 3)
    assert psql("SELECT article_id, priority, attempts, error_message FROM embedding_tasks ORDER BY 1") == [
        ("a1", "high", 2, "busy"),
        ("a2", "normal", 0, None),
        ("a3", "normal", 0, None),
    ]
    assert audited(psql, "import")[0]["counts"] == {"made": 3, "foreign": 1}


def test_bad_lines_are_reported_by_number_and_the_others_imported(run, told, psql, tmp_path):
    articles(psql, 2)
    file = tmp_path / "queue.jsonl"
    lines = run("export").stdout.splitlines()
    bad = ["{", "[]", '{"status": "pending"}', lines[0].replace('"normal"', '"soon"'), lines[0].replace('"a1"', '"a\\u0000"')]
    file.write_text("\n".join([lines[0], *bad, lines[1]]))
    psql("DELETE FROM embedding_tasks")

    answer = told("import", str(file), code=1)

    assert (answer["made"], answer["refused"]) == (2, 5)
    assert [line for line, _ in answer["refused_lines"]] == [2, 3, 4, 5, 6]


def test_what_is_embedded_already_is_not_promised_again(run, told, psql, store, worker, embed_all, tmp_path):
    articles(psql, 2)
    (tmp_path / "queue.jsonl").write_text(run("export").stdout)
    embed_all()

    answer = told("import", str(tmp_path / "queue.jsonl"))

    assert answer["embedded"] == 2
    assert statuses(psql) == {"completed": 2}


# Looking ---------------------------------------------------------------------------------------------------------------------------


def test_status_tells_depth_by_place_and_what_is_wrong(told, run, store, psql):
    articles(psql, 3)
    psql("UPDATE embedding_tasks SET priority = 'low' WHERE article_id = 'a1'")

    seen = told("status")
    said = run("status").stdout

    assert {(row["priority"], row["place"]): row["tasks"] for row in seen["tasks"]} == {
        ("normal", "table"): 2,
        ("low", "table"): 1,
    }
    assert (seen["mode"], seen["open"], seen["broker"]["reachable"]) == ("celery", 3, True)
    assert "no Celery worker is alive" in said


def test_status_says_about_when_it_has_not_counted_to_the_end(store, psql):
    articles(psql, 60)
    psql("ANALYZE embedding_tasks")
    store.overview.cap = 50

    (row,) = store.overview.depth()

    assert row["about"]
    assert 50 <= row["tasks"] <= 70


def test_health_fails_for_a_monitor_while_there_is_a_problem(told, store, worker, environment, psql):
    well = told("health")
    store.workers.leave(worker)
    ill = told("health", code=1)
    environment["DATABASE_URL"] = "postgresql://postgres@127.0.0.1:1/nowhere"
    away = told("health", code=1)

    assert [well["well"], ill["well"], away["well"]] == [True, False, False]
    assert any("no poller" in finding["what"] for finding in ill["findings"])
    assert "cannot be reached" in away["findings"][0]["what"]


def test_explain_says_why_in_one_screen(told, run, store, worker, psql):
    articles(psql, 2)
    (first, _) = claimed(store, worker)
    settled(store, worker, [first], TaskStatus.FAILED, "the text is too long", kind="InputRefused")

    failed = told("explain", first.article_id)
    held = told("explain", "a2" if first.article_id == "a1" else "a1")
    said = run("explain", str(first.id)).stdout

    assert "too long" in failed["reasons"][0]["what"]
    assert "w1 has held it" in held["reasons"][0]["what"]
    assert "Every attempt that failed" in said
    assert "'nobody'" in run("explain", "nobody", code=1).stderr


def test_explain_finds_a_tasks_message_in_its_queue_and_misses_a_lost_one(told, client, redis_url):
    import redis

    for number, article in enumerate(("one", "two"), 1):
        client.create(article, "text", id=article)
        until(lambda: client.broker.look()["normal"].waiting == number, 10)  # noqa: B023

    found = told("explain", "two")["message"]
    redis.Redis.from_url(redis_url).flushall()
    lost = told("explain", "two")

    assert "1 messages ahead" in found
    assert any("message is gone" in reason["what"] for reason in lost["reasons"])


def test_the_audit_is_filtered(told, run):
    run("stop", "--reason", "for the test")
    run("start")

    assert [line["category"] for line in told("audit", "--since", "1h")] == ["start", "stop"]
    assert len(told("audit", "--category", "stop", "--like", "for the test")) == 1
    assert run("audit", "--since", "soon", code=2).stderr


def test_recent_and_stats_tell_what_ended(told, store, worker, psql):
    articles(psql, 3)
    settled(store, worker, claimed(store, worker, 1), TaskStatus.FAILED, "x")

    assert [row["status"] for row in told("recent", "--limit", "3")].count("failed") == 1
    assert told("stats")["ended"][0]["tasks"] == 1


def test_verify_compares_with_a_snapshot(told, psql, tmp_path, store, worker, embed_all):
    articles(psql, 4)
    embed_all()
    file = str(tmp_path / "before.json")
    told("verify", "--snapshot", file)

    same = told("verify", "--compare", file)
    psql("DELETE FROM embeddings WHERE article_id = 'a1'")
    less = told("verify", "--compare", file, code=3)

    assert same["problems"] == []
    assert any("embeddings fewer" in problem for problem in less["problems"])


def test_cleanup_keeps_what_somebody_must_see_and_what_was_called_off(run, told, psql, store, worker, embed_all):
    articles(psql, 4)
    settled(store, worker, claimed(store, worker, 1), TaskStatus.FAILED, "x")
    told("cancel", str(psql("SELECT max(id) FROM embedding_tasks")[0][0]))
    embed_all()
    psql("UPDATE embedding_tasks SET completed_at = completed_at - interval '40 days'")

    planned = told("cleanup", "--dry-run")
    run("cleanup", code=2)
    told("cleanup", "--yes")

    assert planned["would_remove"]["tasks"] == 2
    assert statuses(psql) == {"failed": 1, "cancelled": 1}


# As processes --------------------------------------------------------------------------------------------------------------------------


def process(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    whole = os.environ | environment
    command = [*python(whole, Path.cwd()), "-m", "embedq", *words]
    return subprocess.run(command, env=whole, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def test_without_a_terminal_and_without_yes_what_destroys_is_refused(environment, psql):
    articles(psql, 2)

    refused = process(environment, "clear", "--all")
    done = process(environment, "clear", "--all", "--yes")

    assert (refused.returncode, done.returncode) == (2, 0)
    assert "--yes" in refused.stderr
    assert refused.stdout == ""
    assert statuses(psql) == {"cancelled": 2}


def test_exit_codes_tell_done_failed_misused_and_not_well(environment, psql):
    articles(psql, 1)

    codes = [
        process(environment, *words).returncode
        for words in (["status"], ["explain", "nobody"], ["clear"], ["wait", "--timeout", "0"], ["health"])
    ]

    assert codes == [0, 1, 2, 3, 1]


def test_status_imports_nothing_heavy(environment):
    code = """
import sys
from embedq.cli import embedq
try:
    embedq(["status"], standalone_mode=False)
except SystemExit:
    print([name for name in ("numpy", "celery", "kombu", "sqlalchemy", "redis") if name in sys.modules])
"""
    seen = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )

    assert seen.stdout.splitlines()[-1] == "[]", seen.stderr


# The live row is gone --------------------------------------------------------------------------------------------------------------


def test_without_the_live_row_every_look_says_that_it_is_gone_and_how_to_make_it_anew(psql, run, told):
    articles(psql, 3)
    psql("DELETE FROM embedding_worker_status")

    assert {(seen["is_running"], "embedq start" in seen["reason"]) for seen in (told("status"), told("mode"))} == {
        (False, True)
    }
    health = told("health", code=1)
    assert "is gone: nothing can be claimed, 3 tasks wait" in health["findings"][0]["what"]
    assert "is gone" in told("explain", "a1")["reasons"][0]["what"]
    assert "embedq start" in json.dumps(told("alerts", "check", code=3))
    assert told("maintenance", "status")["submissions_accepted"]
    for words in (("config", "save", "--yes"), ("backfill", "--dry-run"), ("metrics",)):
        run(*words)

    run("start", "--reason", "the row was deleted")
    assert told("status")["is_running"]
    assert psql("SELECT mode, is_running FROM embedding_worker_status") == [("celery", True)]
