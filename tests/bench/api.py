"""What one request costs: a create, a read and a search over HTTP, beside a bare FastAPI application that does only the INSERT."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psutil

from embedq import Client
from tests.acceptance.service import AUTH, serving
from tests.support import ROOT, Process, env, free_port, until

from .figures import Figure, alone, compared, percentile
from .world import World, Yard, seconds

CLIENTS, COUNT, ROUNDS = 16, 3_000, 5
READ_S, READS_A_SECOND, SEARCH_S = 0.0015, 1_500.0, 0.003
CREATES_AT_LEAST = 0.6
TABLE = "CREATE TABLE bare_articles (LIKE article_texts INCLUDING ALL)"


@dataclass(frozen=True)
class Asked:
    """`rate`: requests a second of the whole; `p50`, `p99`: seconds of one; `cpu`: seconds of the service's CPU for one."""

    rate: float
    p50: float
    p99: float
    cpu: float


def run(world: World, *, quick: bool) -> Iterator[Figure]:
    """Rounds in turn. No workers run: they would share the service's cores."""
    count, rounds = (400, 2) if quick else (COUNT, ROUNDS)
    with world.yard(mode="celery", dimensions=8) as yard, ExitStack() as ends:
        yard.sql(TABLE)
        ours = ends.enter_context(_served(yard))
        bare = ends.enter_context(_bare(yard))
        many = [json.dumps({"title": f"Article {n}", "content": "some short text " * 12}) for n in range(50)]
        creates = [f"POST /api/articles {body}" for body in many]
        for each in (ours, bare):
            _ask(
                each, [f'POST /api/articles {{"id": "one", "title": "One", "content": "{"some short text " * 12}"}}'], 1, 1, 201
            )
            _ask(each, creates, CLIENTS, 200, 201)
        yield from _side_by_side(ours, bare, "create", creates, count, rounds, 201, at_least=CREATES_AT_LEAST)
        yield from _side_by_side(ours, bare, "read", ["GET /api/articles/one "], count, rounds, 200)
        single = [_ask(ours, ["GET /api/articles/one "], 1, count // 4, 200) for _ in range(rounds)]
        yield alone("a read, one client", "s", [each.p50 for each in single], at_most=READ_S)
        yield _search(yard, ours, 30 if quick else 100, rounds)
        ends.close()
    yield from _workers(world, count, rounds)


def _side_by_side(
    ours: Any, bare: Any, name: str, lines: Sequence[str], count: int, rounds: int, status: int, at_least: float | None = None
) -> Iterator[Figure]:
    found: dict[str, list[Asked]] = {"ours": [], "bare": []}
    for number in range(rounds):
        for kind in ("ours", "bare") if number % 2 == 0 else ("bare", "ours"):
            found[kind].append(_ask(ours if kind == "ours" else bare, lines, CLIENTS, count, status))
    for what, unit in (("rate", "/s"), ("cpu", "s"), ("p50", "s"), ("p99", "s")):
        here, there = ([getattr(each, what) for each in found[kind]] for kind in ("ours", "bare"))
        told = {"rate": f"{name}s a second, {CLIENTS} clients", "cpu": f"CPU of a {name}"}
        title = told.get(what, f"{what} of a {name}, {CLIENTS} clients")
        yield compared(title, unit, here, there, "the bare application", at_least=at_least if what == "rate" else None)


def _search(yard: Yard, ours: Any, times: int, rounds: int) -> Figure:
    """Over HTTP less through `Client`, for the same question, whose vector both have from the same stand-in."""
    body = json.dumps({"query": "some short text", "k": 10})
    more = []
    with Client(yard.settings) as client:
        client.search("some short text", k=10)
        for _ in range(rounds):
            over = _ask(ours, [f"POST /api/search {body}"], 1, times, 200).p50
            through = median(seconds(lambda: client.search("some short text", k=10)) for _ in range(times))
            more.append(over - through)
    return alone("a search over HTTP, more than through Client", "s", more, at_most=SEARCH_S)


def _workers(world: World, count: int, rounds: int) -> Iterator[Figure]:
    """`serve --workers 2` beside one process."""
    lines = ["GET /api/articles/one "]
    with world.yard(mode="celery", dimensions=8) as yard, ExitStack() as ends:
        one = ends.enter_context(_served(yard))
        two = ends.enter_context(_served(yard, "--workers", "2"))
        _ask(one, ['POST /api/articles {"id": "one", "title": "One", "content": "text"}'], 1, 1, 201)
        found: dict[str, list[float]] = {"one": [], "two": []}
        for number in range(rounds):
            for kind in ("one", "two") if number % 2 == 0 else ("two", "one"):
                found[kind].append(_ask(one if kind == "one" else two, lines, CLIENTS, count, 200).rate)
    yield compared(
        "reads a second of two processes", "/s", found["two"], found["one"], "one process, on the cores that the client leaves"
    )


@dataclass(frozen=True)
class Running:
    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        every = [self.process, *self.process.children(recursive=True)]
        return sum(sum(each.cpu_times()[:2]) for each in every)


@contextmanager
def _served(yard: Yard, *arguments: str) -> Iterator[Running]:
    with serving(yard.environment, *arguments) as served:
        yield Running(served.url, psutil.Process(served.process.pid))


@contextmanager
def _bare(yard: Yard) -> Iterator[Running]:
    port = free_port()
    with Process("bare", [sys.executable, "-m", "tests.bench.bare", yard.url, str(port)], {}) as process:
        running = Running(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        until(lambda: _listens(running.process), 20, process.output)
        yield running


def _listens(process: psutil.Process) -> bool:
    return any(each.status == psutil.CONN_LISTEN for each in process.net_connections("tcp"))


def _ask(whom: Running, lines: Sequence[str], clients: int, count: int, status: int) -> Asked:
    url, before = urlsplit(whom.url), whom.cpu_s()
    argv = [sys.executable, "-m", "tests.bench.light", str(url.hostname), str(url.port), AUTH, str(clients), str(count)]
    done = subprocess.run(argv, env=env({}), cwd=ROOT, input="\n".join(lines), stdout=subprocess.PIPE, text=True, check=True)
    time.sleep(0.02)  # the service's threads finish what they count
    found = json.loads(done.stdout)
    assert found["statuses"] == {str(status): count}, done.stdout[:500]
    every = found["seconds"]
    return Asked(count / found["whole"], median(every), percentile(every, 0.99), (whom.cpu_s() - before) / count)
