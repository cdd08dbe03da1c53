"""A Celery worker can be watched like a poller: numbers on a port of its own, a line of JSON for each task."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedq import Client
from embedq.model import ArticleDraft
from embedq.operations.metric_catalogue import exposed_names
from embedq.settings import from_env
from tests.support import Process, free_port, start_celery, until

from .conftest import RABBITMQ, REDIS

ARTICLES = 20


def metrics_of(worker: Process) -> dict[tuple[str, str], float]:
    """By name and outcome, from the port that the worker says it has."""
    worker.says("metrics of ")
    found = re.search(r"metrics of \S+ are at (http://[^\s\"]+)", worker.output())
    assert found is not None, worker.output()
    page = httpx.get(found[1])
    assert page.headers["content-type"].startswith("text/plain; version=")
    samples = [sample for family in text_string_to_metric_families(page.text) for sample in family.samples]
    assert {sample.name for sample in samples} <= exposed_names()
    return {(sample.name, sample.labels.get("outcome", "")): sample.value for sample in samples}


@pytest.mark.parametrize("plain", [REDIS, RABBITMQ], indirect=True)
def test_a_celery_worker_shows_what_it_did_and_logs_every_task(
    plain: dict[str, str], psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    watched = {"EMBEDDING_METRICS_PORT": str(free_port()), "EMBEDDING_LOG_FORMAT": "json", "EMBEDDING_LOG_LEVEL": "debug"}

    with start_celery(plain | watched) as worker:
        with Client(from_env(plain)) as client:
            client.put([ArticleDraft(f"Confidential {n}", "secret words", id=f"a{n}") for n in range(ARTICLES)])
        until(
            lambda: psql("SELECT count(*) FROM embedding_tasks WHERE status = 'completed'") == [(ARTICLES,)], why=worker.output
        )
        until(lambda: worker.output().count('"outcome": "completed"') == ARTICLES, why=worker.output)
        measured = metrics_of(worker)
        said = worker.output()
        name = psql("SELECT name FROM embedding_workers WHERE delivery = 'celery'")[0][0]

    assert measured["embedq_claimed_total", ""] == ARTICLES
    assert measured["embedq_settled_total", "completed"] == ARTICLES
    # And the canary, of each thread that begins at once.
    assert measured["embedq_provider_inputs_total", ""] in (ARTICLES + 1, ARTICLES + 2)
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    settled = [line for line in lines if line.get("outcome") == "completed"]
    assert {line["article"] for line in settled} == {f"a{n}" for n in range(ARTICLES)}
    assert {(line["delivery"], line["worker"], line["attempt"]) for line in settled} == {("celery", name, 1)}
    assert {line["task"] for line in settled} == {task for (task,) in psql("SELECT id FROM embedding_tasks")}
    assert "Confidential" not in said
    assert "secret" not in said


def test_a_celery_worker_logs_no_single_tasks_unless_asked(
    plain: dict[str, str], psql: Callable[..., list[tuple[object, ...]]]
) -> None:
    with start_celery(plain | {"EMBEDDING_LOG_FORMAT": "json"}) as worker:
        psql("INSERT INTO articles (id, title, content) VALUES ('a', 'Tea', 'How to brew it')")
        until(lambda: psql("SELECT embedding_status FROM articles") == [("ready",)], why=worker.output)
        worker.terminate()

    assert '"outcome"' not in worker.output()
