"""What existing runbooks and programs send is understood: statuses of articles, windows with a duration, marks by SQL, old lists, empty texts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from embedq.model import Priority
from embedq.settings import Settings, from_env
from embedq.store import Store
from tests.standin import StandIn
from tests.support import run_command, start_poller, until

from .operating import answered, embed_due, invoked
from .service import AUTH, Served, serving
from .underload import use_standin

Psql = Callable[..., list[tuple[Any, ...]]]


def put(psql: Psql, number: int = 3) -> None:
    psql("INSERT INTO articles (id, title, content) SELECT 'a' || i, 'T', 'text ' || i FROM generate_series(1, %s) i", number)


@pytest.fixture
def served(environment: dict[str, str]) -> Iterator[Served]:
    with serving(environment) as running:
        yield running


@pytest.fixture(params=["command", "HTTP"])
def requeue(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Callable[[str], Any]]:
    """Requeue by a status, by each door."""
    if request.param == "command":
        yield lambda status: answered(environment, "requeue", "--status", status, "--confirm")
        return
    with serving(environment) as running:
        yield lambda status: running.admin.post("/admin/embedding/requeue", json={"status": status}).raise_for_status().json()


def test_requeue_of_queued_sends_what_lost_its_message_anew(requeue: Callable[[str], Any], psql: Psql) -> None:
    put(psql)
    psql("UPDATE embedding_tasks SET dispatched_at = now() - interval '1 min'")
    psql("DELETE FROM embedding_tasks WHERE article_id = 'a3'")

    told = requeue("queued")

    assert (told["freed"], told["made"]) == (2, 1)
    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NULL") == [(3,)]


def test_requeue_of_processing_hands_back_what_a_dead_worker_holds(
    requeue: Callable[[str], Any], psql: Psql, store: Store
) -> None:
    put(psql)
    worker = store.workers.register("celery", "dead", [], 60.0)
    store.tasks.claim_named(worker, "celery", [1, 2], 10)  # type: ignore[arg-type]
    psql("UPDATE embedding_workers SET alive_until = now() - interval '1 min'")

    requeue("processing")

    assert psql("SELECT count(*) FROM embedding_tasks WHERE status = 'pending'") == [(3,)]


def test_requeue_of_ready_makes_tasks_for_what_is_stale_alone(
    requeue: Callable[[str], Any], psql: Psql, settings: Settings
) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    put(psql)
    embed_due(settings)
    psql("DELETE FROM embedding_vectors WHERE article_id = 'a2'")
    psql("DELETE FROM embeddings WHERE article_id = 'a2'")

    requeue("ready")

    assert psql("SELECT article_id FROM embedding_tasks WHERE status = 'pending'") == [("a2",)]


# Windows --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address, and what is posted there."""
    told: list[dict[str, Any]] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", told
    server.shutdown()
    server.server_close()


def test_a_window_with_a_start_time_a_duration_and_a_webhook(served: Served, heard: tuple[str, list[dict[str, Any]]]) -> None:
    url, told = heard
    starts = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    wanted = {"start_time": starts, "duration": 30, "notify_users": True, "webhook": url, "reason": "new Redis"}

    window = served.admin.post("/admin/maintenance/schedule", json=wanted).raise_for_status().json()["maintenance"]

    assert datetime.fromisoformat(window["ends_at"]) - datetime.fromisoformat(window["starts_at"]) == timedelta(minutes=30)
    assert window["notify_users"] is True
    assert window["webhook"] is True
    assert [each["event"] for each in told] == ["maintenance scheduled"]


def test_a_pause_of_submissions_that_ends_by_itself(served: Served, environment: dict[str, str], psql: Psql) -> None:
    paused = (
        served.admin.post("/admin/maintenance/pause-task-submission", json={"reason": "import", "duration": 0.02})
        .raise_for_status()
        .json()
    )
    put(psql, 1)

    assert paused["maintenance"]["ends_at"]
    assert psql("SELECT count(*) FROM embedding_tasks") == [(0,)]
    with start_poller(environment):
        until(lambda: psql("SELECT submissions_accepted FROM embedding_worker_status") == [(True,)])
        until(lambda: psql("SELECT count(*) FROM embedding_tasks") == [(1,)])


# Articles -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [{}, {"title": ""}, {"title": " ", "content": "\n"}])
def test_a_text_that_is_empty_is_skipped_and_the_others_are_written(empty: dict[str, str], served: Served, psql: Psql) -> None:
    told = served.articles.post("/api/articles/batch", json={"articles": [{"title": "Tea"}, empty, {"content": "Milk"}]})

    assert told.status_code == 200, told.text
    assert [one["outcome"] for one in told.json()["articles"]] == ["created", "skipped", "created"]
    assert (told.json()["created"], told.json()["skipped"]) == (2, 1)
    assert psql("SELECT count(*) FROM articles") == [(2,)]


def test_an_article_marked_by_sql_is_marked(environment: dict[str, str], psql: Psql) -> None:
    put(psql)
    psql("""UPDATE articles SET metadata = '{"needs_review": true}' WHERE id = 'a2'""")

    listed = answered(environment, "articles", "mark-review", "--marked")
    answered(environment, "articles", "mark-review", "a2", "--clear")

    assert [row["id"] for row in listed] == ["a2"]
    assert answered(environment, "articles", "mark-review", "--marked") == []


@pytest.mark.parametrize(
    "entry",
    [
        {"article_id": "a1"},
        {"articleId": "a1", "priority": "high"},
        {"id": 7, "data": {"article_id": "a1"}},
        {"payload": {"node_id": "a1"}},
    ],
    ids=str,
)
def test_an_entry_of_an_old_list_becomes_a_task(
    entry: dict[str, Any], environment: dict[str, str], redis_url: str, psql: Psql
) -> None:
    put(psql)
    psql("DELETE FROM embedding_tasks")
    redis.Redis.from_url(redis_url).lpush(Priority.NORMAL, json.dumps(entry))

    invoked(environment, "broker", "drain", "--yes", "--reason", "old lists")

    assert psql("SELECT article_id FROM embedding_tasks WHERE status = 'pending'") == [("a1",)]
    assert psql("SELECT count(*) FROM embedding_rejected_messages") == [(0,)]


# Records and mistakes ---------------------------------------------------------------------------------------------------------------------


def test_failed_tasks_and_faults_are_lines_of_the_level_error(
    environment: dict[str, str], standin: StandIn, psql: Psql
) -> None:
    known = use_standin(environment, standin, EMBEDDING_MAX_RETRIES="0")
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    standin.control(markers={"text 2": "refuse"}, latency_ms=0.0)
    put(psql)
    embed_due(from_env(known))
    standin.control(fail_always=True)
    psql("UPDATE articles SET content = 'newer'")
    embed_due(from_env(known), batches=1)

    lines = psql("SELECT category, message, metadata FROM embedding_audit_logs WHERE level = 'error' ORDER BY id")

    assert [category for category, *_ in lines] == ["task", "provider"]
    assert "1 tasks failed: 1 InputRefused" in lines[0][1]
    assert lines[0][2]["articles"] == ["a2"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        pytest.param(None, "is a folder", id="a folder"),
        pytest.param('{"title": "Tea", "content": "x"}\n', "this is an article", id="articles"),
    ],
)
def test_articles_handed_to_import_are_told_apart_from_tasks(
    content: str | None, word: str, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "given.jsonl"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)

    ended = run_command(environment, "import", str(path))

    assert ended.returncode in (1, 2)
    assert word in ended.stdout + ended.stderr
    assert "embedq articles import" in ended.stdout + ended.stderr


def test_provider_check_tells_of_workers_with_another_key(environment: dict[str, str], standin: StandIn, psql: Psql) -> None:
    known = use_standin(environment, standin)
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    standin.control(require_key="sk-test", latency_ms=0.0)
    put(psql, 1)
    embed_due(from_env(known | {"OPENAI_API_KEY": "sk-wrong"}), batches=1)

    told = answered(known, "provider", "check", code=3)["checks"]

    (of_workers,) = [each for each in told if each["what"] == "workers"]
    assert "their last calls were refused" in of_workers["found"]
    assert "accepted here" in of_workers["next"]


def test_backups_by_schedule_keep_as_many_as_asked(environment: dict[str, str], psql: Psql, tmp_path: Path) -> None:
    put(psql)
    folder = tmp_path / "kept"
    folder.mkdir()
    old = [folder / f"embedq-2020010{day}-030000.backup" for day in (1, 2, 3)]
    for each in (*old, folder / "another.backup"):
        each.write_text("")

    told = answered(environment, "backup", str(folder), "--keep", "2")

    assert told["removed"] == [old[0].name, old[1].name]
    assert {each.name for each in folder.iterdir()} == {Path(told["path"]).name, old[2].name, "another.backup"}
    assert answered(environment, "restore", told["path"], "--dry-run")
    assert "needs a folder" in invoked(environment, "backup", str(tmp_path / "file"), "--keep", "2", code=2).stderr


# Trials of an installed system ------------------------------------------------------------------------------------------------------------

NOTHING_LEFT = "SELECT count(*) FROM (SELECT id FROM article_texts UNION ALL SELECT article_id FROM article_versions UNION ALL SELECT article_id FROM embedding_tasks UNION ALL SELECT article_id FROM embeddings) x"  # noqa: E501


@pytest.mark.parametrize("kind", ["processing", "load"])
def test_a_trial_goes_the_whole_way_and_leaves_nothing(kind: str, environment: dict[str, str], psql: Psql) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    with start_poller(environment):
        told = answered(environment, "test", kind, "--articles", "3")

    assert told["well"], told
    assert [step["found"] for step in told["steps"]] == ["", "", ""]
    assert psql(NOTHING_LEFT) == [(0,)]


def test_a_trial_without_workers_says_so_and_leaves_nothing(environment: dict[str, str], psql: Psql) -> None:
    told = answered(environment, "test", "processing", "--timeout", "0.2", code=3)

    assert "0 of 3 were embedded" in told["steps"][-1]["found"]
    assert psql(NOTHING_LEFT) == [(0,)]


def test_a_trial_of_the_service(served: Served, environment: dict[str, str], psql: Psql) -> None:
    told = answered(environment | {"AUTH_TOKEN": AUTH}, "test", "api", "--url", served.url)
    refused = answered(environment, "test", "api", "--url", served.url, code=3)

    assert told["well"], told
    assert "401" in refused["steps"][-1]["found"]
    assert psql(NOTHING_LEFT) == [(0,)]


def test_stats_count_articles_by_status(served: Served, environment: dict[str, str], psql: Psql) -> None:
    put(psql)
    psql("UPDATE embedding_tasks SET status = 'failed' WHERE article_id = 'a1'")

    assert answered(environment, "stats")["articles"] == {"failed": 1, "queued": 2}
    assert served.admin.get("/admin/queue/stats").json()["articles"] == {"failed": 1, "queued": 2}
