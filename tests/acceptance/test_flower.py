"""What Flower shows of embedq: workers always, deliveries while Celery's events are on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx

from embedq import Client
from tests.forked import python
from tests.support import ROOT, Process, env, free_port, start_celery, until

Rows = Callable[..., list[tuple[Any, ...]]]
AUTH = ("embedq", "a-password-for-flower")


def control(environment: dict[str, str], act: str) -> None:
    whole = env(environment)
    argv = [*python(whole), "-m", "celery", "-A", "embedq", "control", act]
    subprocess.run(argv, env=whole, cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_its_page_of_tasks_is_filled_while_events_are_on(environment: dict[str, str], client: Client, psql: Rows) -> None:
    port = free_port()
    argv = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "embedq",
        "flower",
        "--address=127.0.0.1",
        f"--port={port}",
        "--enable_events=False",
    ]
    flower = environment | {"FLOWER_BASIC_AUTH": ":".join(AUTH)}

    def deliveries() -> int:
        return len(httpx.get(f"http://127.0.0.1:{port}/api/tasks", auth=AUTH, timeout=30).json())

    def embed(title: str) -> None:
        client.create(title, "a text")
        until(lambda: psql("SELECT count(*) FROM articles WHERE embedding_status <> 'ready'") == [(0,)])

    with start_celery(environment), Process("flower", argv, flower) as process:
        process.says("Connected to")
        embed("before")
        without = deliveries()
        control(environment, "enable_events")
        embed("with events")
        until(lambda: deliveries() == 1)
        control(environment, "disable_events")
        embed("after")

        assert without == 0
        assert deliveries() == 1
