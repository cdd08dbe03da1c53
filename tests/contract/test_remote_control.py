"""`celery control`, as Celery's users know it: what a worker can do it does; what it cannot it says, with what does it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import ROOT, Process, env, start_celery


def control(environment: dict[str, str], *words: str) -> str:
    argv = [sys.executable, "-m", "celery", "-A", "embedq", "control", *words]
    return subprocess.run(argv, env=env(environment), cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def threads(environment: dict[str, str]) -> Iterator[Process]:
    with start_celery(environment) as worker:
        yield worker


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pool_grow", "1"], "embedq throttle --concurrency"),
        (["pool_shrink", "1"], "embedq throttle --concurrency"),
        (["autoscale", "4", "1"], "--pool prefork --autoscale"),
        (["pool_restart"], "start it again"),
    ],
    ids=["pool_grow", "pool_shrink", "autoscale", "pool_restart"],
)
def test_what_a_pool_of_threads_cannot_is_said_without_a_traceback(
    words: list[str], told: str, threads: Process, environment: dict[str, str]
) -> None:
    assert told in control(environment, *words)
    assert "Traceback" not in threads.output()


def test_a_pool_of_processes_grows_and_shrinks(environment: dict[str, str]) -> None:
    with start_celery(environment, pool="prefork"):
        assert "pool will grow" in control(environment, "pool_grow", "1")
        assert "pool will shrink" in control(environment, "pool_shrink", "1")
