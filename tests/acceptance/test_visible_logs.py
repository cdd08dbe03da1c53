"""What strangers have written makes no line of its own in any program's log, clears no terminal, and no secret is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.acceptance.service import serving
from tests.shouting import DONE, LOGGERS
from tests.strangers import FORGED, HOSTILE, forged, seen
from tests.support import Process, start_celery, start_poller, until

Rows = Callable[..., list[tuple[Any, ...]]]
DEBUG = {"EMBEDDING_LOG_LEVEL": "debug"}
STYLES = pytest.mark.parametrize("style", ["text", "json"])


@pytest.fixture
def hostile(admin_url: str) -> None:
    """An article of a stranger that is embedded, and one of which no provider embeds anything."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("UPDATE embedding_worker_status SET mode = 'database'")
        connection.execute(
            "INSERT INTO articles (id, tenant_id, title, content) VALUES (%s, %s, 'x', 'y')", [f"tea{HOSTILE}", HOSTILE]
        )


def well_said(said: str) -> bool:
    """No line of a stranger's, nothing that a terminal obeys, and the words are there. Tabs: a server's log, or a traceback."""
    assert (seen(said, "\n\t"), forged_at_the_edge(said), FORGED in said) == ([], [], True), said
    return True


def forged_at_the_edge(said: str) -> list[str]:
    """Below a line of the log everything is indented: what begins a line is a line of the log."""
    return [line for line in forged(said) if not line.startswith("  ")]


@STYLES
def test_a_poller_logs_visibly(style: str, environment: dict[str, str], hostile: None) -> None:
    with start_poller(environment | DEBUG | {"EMBEDDING_LOG_FORMAT": style}) as poller:
        until(lambda: "completed" in poller.output(), why=poller.output)
        poller.terminate()

    assert well_said(poller.output())


@STYLES
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_celery_worker_logs_visibly_through_every_logger_and_without_secrets(
    style: str, pool: str, environment: dict[str, str]
) -> None:
    with start_celery(environment | {"EMBEDDING_LOG_FORMAT": style}, pool=pool, more=["-I", "tests.shouting"]) as worker:
        worker.says(DONE)
        said = worker.output()

    assert well_said(said)
    assert "QQ" not in said and "ZZ" not in said
    if style == "json":
        lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        assert {line["logger"] for line in lines if "traceback" in line} == set(LOGGERS)
    else:
        assert said.count("Traceback (most recent call last)") == len(LOGGERS)


@STYLES
def test_the_http_service_logs_visibly(style: str, environment: dict[str, str], psql: Rows) -> None:
    with serving(environment | DEBUG | {"EMBEDDING_LOG_FORMAT": style}) as served:
        for path in ("/api/articles/%1b%5b2J%0aFORGED: all is well%e2%80%ae", "/%1b%0aFORGED: all is well"):
            served.articles.get(path, headers={"X-Request-ID": "FORGED: \x85 \x9b".encode("latin-1")})
        served.articles.post("/api/articles", json={"id": HOSTILE, "title": HOSTILE, "content": HOSTILE, "tenant_id": HOSTILE})
        served.process.terminate()

    said = served.process.output()
    assert "GET" in said
    assert (seen(said, "\n"), forged(said)) == ([], [])


@contextmanager
def up(environment: dict[str, str]) -> Iterator[Process]:
    argv = [sys.executable, "-m", "embedq", "up", "--flower-port", "0", "--http-port", "0"]
    with Process("up", argv, environment | DEBUG) as process:
        yield process
        process.terminate(90)


def test_up_repeats_its_parts_lines_visibly(environment: dict[str, str], hostile: None) -> None:
    with up(environment) as process:
        until(lambda: "completed" in process.output() and "ready." in process.output(), 60, process.output)

    assert well_said(process.output())
    assert all(" | " in line for line in process.output().splitlines())
