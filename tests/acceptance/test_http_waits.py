"""Whoever makes the service wait (a lock, a provider, a broker, a client) holds up its own request and nobody else's."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from statistics import median
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from embedq import Client
from embedq.client.bulkhead import PATIENCE_S, SEATS
from embedq.http.checked import Checked
from embedq.http.service import SEARCH_THREADS, THREADS
from embedq.settings import Settings, from_env
from tests.acceptance.service import AUTH, FOR_ARTICLES, problem, serving
from tests.redisprocess import OwnRedis
from tests.standin import StandIn
from tests.support import Process, until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
Rows = Callable[..., list[tuple[object, ...]]]


def test_a_row_that_somebody_holds_is_a_503_for_its_writers_and_nothing_for_the_others(
    environment: dict[str, str], database_url: str, psql: Rows
) -> None:
    with serving(environment) as served, psycopg.connect(database_url) as holder:
        served.articles.post("/api/articles", json={"title": "x", "id": "held"})
        holder.execute("SELECT FROM article_texts WHERE id = 'held' FOR UPDATE")

        def edit(_: int) -> httpx.Response:
            return httpx.put(f"{served.url}/api/articles/held", json={"title": "y"}, headers=FOR_ARTICLES, timeout=30)

        with ThreadPoolExecutor(THREADS) as pool:
            edits = pool.map(edit, range(THREADS))
            until(lambda: psql(WAITING) == [(THREADS,)])
            other = served.articles.post("/api/articles", json={"title": "another"}, timeout=20)
            refused = list(edits)
        deleted = served.articles.delete("/api/articles/held")
        holder.rollback()
        edited = edit(0)

    assert other.status_code == 201
    assert {answer.status_code for answer in [*refused, deleted]} == {503}
    assert problem(deleted)["type"] == "urn:embedq:busy"
    assert int(deleted.headers["retry-after"]) >= 1
    assert edited.status_code == 200


def test_a_deadlock_is_a_503_that_wrote_nothing(environment: dict[str, str], admin_url: str, psql: Rows) -> None:
    with serving(environment) as served, psycopg.connect(admin_url) as other:
        served.articles.post("/api/articles/batch", json={"articles": [{"title": "x", "id": "a"}, {"title": "x", "id": "b"}]})
        other.execute("SET deadlock_timeout = '20s'")
        other.commit()
        other.execute("UPDATE article_texts SET title = 'other' WHERE id = 'b'")
        batch = {"replace": True, "articles": [{"title": "y", "id": "a"}, {"title": "y", "id": "b"}]}

        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(served.articles.post, "/api/articles/batch", json=batch)
            until(lambda: psql(WAITING) == [(1,)])
            # Ours does not look for deadlocks so soon: the service's transaction is the one given up.
            other.execute("UPDATE article_texts SET title = 'other' WHERE id = 'a'")
            other.commit()
            refused = answer.result()

    assert refused.status_code == 503
    assert problem(refused)["type"] == "urn:embedq:busy"
    assert psql("SELECT DISTINCT title FROM articles") == [("other",)]


def test_searches_that_wait_for_a_hanging_provider_hold_up_no_save_and_no_read(
    deployment: dict[str, str], standin: StandIn
) -> None:
    standin.control(latency_ms=0)
    with serving(deployment) as served, ThreadPoolExecutor(THREADS + SEARCH_THREADS) as pool:
        with standin.held():
            searches = [
                pool.submit(httpx.post, f"{served.url}/api/search", json={"query": "tea"}, headers=FOR_ARTICLES, timeout=60)
                for _ in range(THREADS + SEARCH_THREADS)
            ]
            standin.wait_until_held(SEARCH_THREADS)
            saved = served.articles.post("/api/articles", json={"title": "Tea", "id": "tea"}, timeout=10)
            read = served.articles.get("/api/articles/tea", timeout=10)
        found = [search.result().status_code for search in searches]

    assert (saved.status_code, read.status_code) == (201, 200)
    assert set(found) == {200}


def test_in_mode_sync_writes_that_wait_for_a_hanging_provider_hold_up_no_save_and_no_read(
    deployment: dict[str, str], standin: StandIn, psql: Rows
) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    standin.control(latency_ms=0)
    with serving(deployment) as served, ThreadPoolExecutor(3 * THREADS) as pool:
        with standin.held():
            waiting = [
                pool.submit(httpx.post, f"{served.url}/api/articles", json={"title": "x"}, headers=FOR_ARTICLES, timeout=120)
                for _ in range(3 * THREADS)
            ]
            standin.wait_until_held(SEATS)
            until(lambda: sum(write.done() for write in waiting) == len(waiting) - SEATS)
            saved = served.articles.post("/api/articles", json={"title": "Tea", "id": "tea"}, timeout=PATIENCE_S)
            read = served.articles.get("/api/articles/tea", timeout=PATIENCE_S)
        answers = [write.result().status_code for write in waiting]
        embedded = served.articles.post("/api/articles", json={"title": "Mate"}).json()["embedding"]["status"]

    assert (saved.status_code, read.status_code) == (201, 200)
    assert set(answers) == {201}
    assert psql("SELECT count(*) FROM articles") == [(3 * THREADS + 2,)]
    assert embedded == "ready"


def test_in_mode_sync_more_writes_at_once_than_may_wait_are_all_embedded_while_the_provider_is_well(
    deployment: dict[str, str], standin: StandIn, psql: Rows
) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'sync'")
    standin.control(latency_ms=200)
    with Client(from_env(deployment), connections=3 * SEATS) as client, ThreadPoolExecutor(3 * SEATS) as pool:
        made = list(pool.map(lambda number: client.create(f"Tea {number}", "steeped"), range(3 * SEATS)))

    assert {article.embedding_status for article in made} == {"ready"}
    assert standin.stats()["max_concurrent"] <= SEATS


def test_a_broker_that_hangs_holds_up_hardly_a_save_and_no_look_at_the_health(
    deployment: dict[str, str], broken: OwnRedis
) -> None:
    with serving(deployment) as served:
        broken.freeze()
        saved = [served.articles.post("/api/articles", json={"title": str(number)}) for number in range(20)]
        with ThreadPoolExecutor(20) as pool:
            looks = list(pool.map(lambda _: httpx.get(f"{served.url}/health/ready", timeout=30), range(20)))
        broken.thaw()

    assert {answer.status_code for answer in saved} == {201}
    # Whoever finds that it hangs pays a second; the others are told by the circuit.
    assert median(answer.elapsed.total_seconds() for answer in saved) < 0.5
    assert {answer.status_code for answer in looks} == {200}
    assert not looks[0].json()["checks"]["broker"]["ok"]


def test_many_looks_at_the_health_at_once_are_one_look(settings: Settings) -> None:
    with Client(settings) as client:
        checked = Checked(client)

        async def look() -> list[object]:
            return await asyncio.gather(*(checked.look() for _ in range(20)))

        found = asyncio.run(look())

    assert len({id(seen) for seen in found}) == 1


SLOW = """
import os, uvicorn
from embedq.http import make_app
from embedq.settings import from_env
uvicorn.run(make_app(from_env(os.environ), body_within_s=2.0), port=0)
"""


def test_a_body_that_does_not_come_is_given_up_and_one_that_comes_slowly_is_not(environment: dict[str, str]) -> None:
    tokens = {"AUTH_TOKEN": AUTH}
    with Process("slow", [sys.executable, "-c", SLOW], environment | tokens) as process:
        process.says("Uvicorn running on")
        port = urlsplit(process.output().partition("running on ")[2].split()[0]).port
        head = (
            f"POST /api/articles HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {AUTH}\r\n"
            "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n"
        )
        silent, slow = (socket.create_connection(("127.0.0.1", port or 0), timeout=20) for _ in range(2))
        silent.sendall(f'{head}{{"tit'.encode())
        slow.sendall(head.encode())
        for byte in b'{"title": "x"}':
            slow.sendall(bytes([byte]))
            time.sleep(0.05)  # slower than any program, and within the time
        taken = slow.recv(65_536).decode()
        given_up = "".join(iter(lambda: silent.recv(65_536).decode(), ""))
        for connection in (silent, slow):
            connection.close()

    assert given_up.startswith("HTTP/1.1 408")
    assert "urn:embedq:too-slow" in given_up
    assert "connection: close" in given_up.lower()
    assert taken.startswith("HTTP/1.1 201")


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_health_is_told_while_every_thread_waits(environment: dict[str, str], database_url: str, psql: Rows, path: str) -> None:
    with serving(environment) as served, psycopg.connect(database_url) as holder:
        served.articles.post("/api/articles", json={"title": "x", "id": "held"})
        holder.execute("SELECT FROM article_texts WHERE id = 'held' FOR UPDATE")
        with ThreadPoolExecutor(THREADS) as pool:
            edits = pool.map(
                lambda _: httpx.put(f"{served.url}/api/articles/held", json={"title": "y"}, headers=FOR_ARTICLES, timeout=30),
                range(THREADS),
            )
            until(lambda: psql(WAITING) == [(THREADS,)])
            health = served.stranger.get(path, timeout=10)
            still_waiting = psql(WAITING)
            list(edits)

    assert (health.status_code, still_waiting) == (200, [(THREADS,)])


def asked(connection: HTTPConnection) -> int:
    """The status of the health, its whole answer read."""
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_a_connection_that_rests_is_not_hung_up_on_while_clients_and_proxies_still_keep_it(environment: dict[str, str]) -> None:
    """Who closes an idle connection first loses the request that is on its way: clients keep one for 5 seconds and more."""
    with serving(environment) as served:
        parts = urlsplit(served.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        first = asked(connection)
        rests, connection.auto_open = connection.sock, 0  # not by another connection
        rests.settimeout(7)
        with pytest.raises(TimeoutError):  # hung up would be b""
            rests.recv(1)
        rests.settimeout(20)
        second = asked(connection)
        connection.close()

    assert (first, second) == (200, 200)
