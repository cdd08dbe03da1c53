"""Maintenance: announced, begun and ended by itself; what is saved meanwhile gets its tasks."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedq.model import Mode
from embedq.store import Store

from .incidents import write
from .underload import embedq, facts, fleet, wait_until


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
