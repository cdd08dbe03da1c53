"""Maintenance: announced, begun and ended by itself; what is saved meanwhile gets its tasks."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from embedq.model import Mode
from embedq.store import Store

from .incidents import write
from .service import serving
from .underload import embedq, facts, fleet, wait_until

OVER = Jsonb({"ends_at": "2026-01-31T10:20:30+00:00"})


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on loopback, and what it was told."""
    heard: list[dict[str, Any]] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret-part", heard
    server.shutdown()
    server.server_close()


def test_articles_saved_while_submissions_are_paused_get_their_tasks_when_maintenance_ends(
    plain: dict[str, str], store: Store, told: tuple[str, list[dict[str, Any]]]
) -> None:
    url, heard = told
    began = embedq(plain, "maintenance", "start", "--pause-submissions", "--webhook", url, "--reason", "new disk")
    write(plain, 25)
    meanwhile = sum(store.switches.counts().values())
    shown = embedq(plain, "maintenance", "status", "--json")
    ended = embedq(plain, "maintenance", "end", "--reason", "done", "--json")

    assert (began.exit_code, meanwhile, ended.json["made"]) == (0, 0, 25)
    assert (shown.json["submissions_accepted"], shown.json["maintenance"]["state"]) == (False, "running")
    assert "secret-part" not in shown.out + began.out + ended.out + json.dumps(
        [row["metadata"] for row in store.audit.recent(50)]
    )
    assert [each["event"] for each in heard] == ["maintenance started", "maintenance ended"]
    assert sum(store.switches.counts().values()) == 25


def test_a_webhook_that_fails_does_not_fail_the_command(plain: dict[str, str]) -> None:
    ran = embedq(plain, "maintenance", "start", "--webhook", "http://127.0.0.1:1/", "--reason", "new disk")

    assert (ran.exit_code, "the webhook was not told" in ran.out) == (0, True)


def test_a_scheduled_window_begins_and_ends_by_the_steward(plain: dict[str, str], store: Store, tmp_path: Path) -> None:
    store.status.set_mode(Mode.DATABASE, "test", "test")
    with fleet(plain, tmp_path, store, celery=0, pollers=1):
        embedq(plain, "maintenance", "schedule", "--at", "+1s", "--for", "3s", "--pause-submissions", "--reason", "new disk")
        wait_until(lambda: store.status.live().submissions_accepted is False, 15, "the beginning")
        write(plain, 10)
        wait_until(lambda: store.status.live().maintenance is None, 15, "the end")
        wait_until(lambda: facts(store)["stored"] == 10, 15, "what was written meanwhile")


# Pauses that end by themselves --------------------------------------------------------------------------------------------------------


def test_a_pause_ends_by_itself_and_one_that_was_there_before_stays(
    plain: dict[str, str], store: Store, tmp_path: Path, told: tuple[str, list[dict[str, Any]]]
) -> None:
    url, heard = told
    store.status.set_mode(Mode.DATABASE, "test", "test")
    embedq(plain, "pause", "--priority", "low")
    paused = embedq(plain, "pause", "--tenant", "acme", "-p", "low", "-p", "normal", "--for", "1h", "--webhook", url)
    during = store.status.live()
    store.database.execute("UPDATE embedding_worker_status SET maintenance = maintenance || %(over)s", {"over": OVER})
    with fleet(plain, tmp_path, store, celery=0, pollers=1):
        wait_until(lambda: store.status.live().maintenance is None, 30, "the end")

    after = store.status.live()
    assert (paused.exit_code, "until 20" in paused.out) == (0, True), paused
    assert (during.paused_priorities, during.paused_tenants) == (("low", "normal"), ("acme",))
    assert (after.paused_priorities, after.paused_tenants) == (("low",), ())
    wait_until(lambda: [each["event"] for each in heard] == ["maintenance started", "maintenance ended"])


@pytest.mark.parametrize("words", [["resume"], ["maintenance", "end", "--reason", "done"]])
def test_a_pause_with_an_end_is_ended_earlier(words: list[str], plain: dict[str, str], store: Store) -> None:
    embedq(plain, "pause", "--for", "1h")

    embedq(plain, *words)

    live = store.status.live()
    assert (live.paused_priorities, live.maintenance) == ((), None)


def test_resuming_a_part_of_what_is_paused_leaves_the_rest_its_end(plain: dict[str, str], store: Store) -> None:
    embedq(plain, "pause", "--for", "1h")

    embedq(plain, "resume", "--priority", "low")

    live = store.status.live()
    assert live.maintenance is not None
    assert set(live.paused_priorities) == {"urgent", "high", "normal"}


@pytest.mark.parametrize("words", [["schedule", "--at", "+1h"], ["start"]])
def test_a_pause_takes_no_windows_place(words: list[str], plain: dict[str, str], store: Store) -> None:
    embedq(plain, "maintenance", *words, "--reason", "new disk")

    refused = embedq(plain, "pause", "--for", "1h")

    assert (refused.exit_code, "embedq maintenance end" in refused.err) == (3, True), refused
    assert store.status.live().paused_priorities == ()


def test_only_a_pause_with_an_end_has_a_webhook(plain: dict[str, str]) -> None:
    refused = embedq(plain, "pause", "--webhook", "http://127.0.0.1:1/")

    assert (refused.exit_code, "--for" in refused.err) == (2, True)


# Procedures ---------------------------------------------------------------------------------------------------------------------------


def test_a_procedure_tells_its_webhook_that_it_begins_and_how_it_ended(
    plain: dict[str, str], store: Store, told: tuple[str, list[dict[str, Any]]]
) -> None:
    url, heard = told

    done = embedq(plain, "rollback", "partial", "--watch", "0.1", "--webhook", url, "--reason", "late", "--json")

    assert [each["event"] for each in heard] == ["procedure begun", "procedure ended"], done
    assert {each["procedure"]["run"] for each in heard} == {done.json["run"]}
    assert (heard[0]["procedure"]["kind"], heard[0]["procedure"]["reason"]) == ("partial", "late")
    assert (heard[1]["procedure"]["exit_code"], done.json["webhook_failed"]) == (done.exit_code, None)
    assert "secret-part" not in done.out + done.err + json.dumps([row["metadata"] for row in store.audit.recent(50)])


def test_a_procedure_that_fails_tells_so(
    plain: dict[str, str], store: Store, psql: Any, told: tuple[str, list[dict[str, Any]]]
) -> None:
    url, heard = told
    psql("SELECT pg_advisory_lock(embedq_fence_key())")

    done = embedq(plain, "rollback", "partial", "--webhook", url, "--reason", "late")

    assert done.exit_code == 3
    assert [each["event"] for each in heard] == ["procedure begun", "procedure failed"]
    assert "pg_terminate_backend" in heard[1]["procedure"]["next"]


def test_a_procedure_does_not_fail_with_its_webhook(plain: dict[str, str]) -> None:
    done = embedq(plain, "rollback", "emergency", "--webhook", "http://127.0.0.1:1/", "--reason", "Redis", "--json")

    assert done.exit_code == 0, done
    assert "the webhook was not told" in done.json["webhook_failed"]


def test_an_emergency_over_http_tells_its_webhook(plain: dict[str, str], told: tuple[str, list[dict[str, Any]]]) -> None:
    url, heard = told
    with serving(plain) as served:
        asked = {"reason": "Redis", "webhook": url}
        done = served.admin.post("/admin/maintenance/emergency-mode", json=asked).raise_for_status().json()

    assert done["webhook_failed"] is None
    assert [each["event"] for each in heard] == ["procedure begun", "procedure ended"]


def test_status_does_not_show_the_address_of_the_webhook(environment, psql, monkeypatch):
    import json as json_

    from click.testing import CliRunner

    from embedq.cli import embedq

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    window = {"state": "running", "reason": "upgrade", "webhook": "http://127.0.0.1:1/geheim"}
    psql("UPDATE embedding_worker_status SET maintenance = %s::jsonb", json_.dumps(window))

    shown = CliRunner().invoke(embedq, ["status", "--json"])

    assert "geheim" not in shown.output
    assert json_.loads(shown.stdout)["maintenance"]["reason"] == "upgrade"
