"""`embedq serve --workers N`: several processes on one socket."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from embedq.cli.serve import bound
from tests.acceptance.service import Served, serving
from tests.support import until

WORKERS = 2


@pytest.fixture
def served(environment: dict[str, str]) -> Iterator[Served]:
    with serving(environment, "--workers", str(WORKERS)) as running:
        yield running


def children(pid: int) -> list[int]:
    """The processes that this one started and that still run."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found if state(int(each)) not in ("Z", "")]


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


def serving_processes(served: Served) -> list[int]:
    until(lambda: served.process.output().count("Application startup complete") >= WORKERS)
    return children(served.process.pid)


def test_each_process_answers(served: Served) -> None:
    pids = serving_processes(served)
    assert len(pids) == WORKERS

    for stopped in pids:  # what the other answers, it answers alone
        os.kill(stopped, signal.SIGSTOP)
        try:
            until(lambda: httpx.get(f"{served.url}/health", timeout=30).status_code == 200)  # on a new connection
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_one_that_dies_is_started_again_and_the_others_go_on(served: Served) -> None:
    killed, other = serving_processes(served)

    os.kill(killed, signal.SIGKILL)

    until(lambda: httpx.get(f"{served.url}/health", timeout=30).status_code == 200)  # on a new connection
    until(lambda: len(children(served.process.pid)) == WORKERS)
    assert killed not in children(served.process.pid)
    assert other in children(served.process.pid)
    assert "was ended by SIGKILL; starting it again" in served.process.output()


def test_term_ends_all(served: Served) -> None:
    pids = serving_processes(served)

    os.kill(served.process.pid, signal.SIGTERM)

    until(lambda: not any(state(pid) for pid in pids))
    until(lambda: served.process.exit_code == 0)


def test_none_outlives_a_parent_that_is_killed(served: Served) -> None:
    pids = serving_processes(served)

    os.kill(served.process.pid, signal.SIGKILL)

    until(lambda: not any(state(pid) not in ("", "Z") for pid in pids))


def test_an_answer_is_sent_at_once() -> None:
    with bound("127.0.0.1", 0, 5) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
