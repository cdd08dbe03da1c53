"""Strangers who send slowly, much, or nothing, over bare sockets to the service as a process of its own: each costs a bounded share."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from embedq.local.servers import Servers
from tests.acceptance.service import ADMIN, AUTH, FOR_ADMIN, FOR_ARTICLES, TOKENS, Served, hashing_at, problem, serving
from tests.conftest import fresh_database
from tests.support import Process, until

MIB = 1024 * 1024
# The service with shorter times. Half a minute of each in a test would show no more.
SHORT = """
import os, sys
from embedq.http import app, bodies, connections
connections.HEAD_S = connections.READ_S = 1.0
bodies.Bodies.__init__.__defaults__ = (None, 4 * 1024 * 1024)
app.make_app.__kwdefaults__["body_within_s"] = 1.0
from embedq.__main__ import main
sys.argv = ["embedq", "serve", "--port", "0"]
main()
"""


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def world(servers: Servers, database_url: str) -> dict[str, str]:
    return hashing_at(database_url, servers.redis_url)


@pytest.fixture(scope="module")
def served(world: dict[str, str]) -> Iterator[Served]:
    with serving(world) as running:
        yield running


@contextmanager
def started(argv: list[str], environment: dict[str, str]) -> Iterator[Served]:
    with Process("serve", argv, TOKENS | environment) as process:
        process.says("Application startup complete")
        found = re.search(r"embedq serves (http://\S+)", process.output())
        assert found is not None
        served = Served(process, found[1])
        try:
            yield served
        finally:
            served.close()


@pytest.fixture(scope="module")
def hasty(world: dict[str, str]) -> Iterator[Served]:
    with started([sys.executable, "-c", SHORT], world) as running:
        yield running


def connected(served: Served, source: str = "127.0.0.1", timeout_s: float = 30.0) -> socket.socket:
    parts = urlsplit(served.url)
    return socket.create_connection((parts.hostname, parts.port), timeout_s, (source, 0))


def head(method: str, path: str, token: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the other side says that nothing more does."""
    found = b""
    while piece := connection.recv(65_536):
        found += piece
    return found


def answered(served: Served, request: bytes) -> tuple[int, str]:
    """The status of the answer, and all of it. The connection must be closed by the service."""
    with connected(served) as connection:
        connection.sendall(request)
        answer = to_the_end(connection).decode()
    return int(answer.split(" ", 2)[1]), answer


# The token comes before the body ----------------------------------------------------------------------------------------------------

CLOSED = [
    ("POST", "/api/articles"),
    ("PUT", "/api/articles/x"),
    ("POST", "/api/articles/batch"),
    ("POST", "/api/search"),
    ("POST", "/admin/mode"),
    ("POST", "/admin/queue/shutdown-workers"),
    ("POST", "/admin/embedding/requeue"),
    ("POST", "/admin/maintenance/schedule"),
]
JSON_TO_COME = ("Content-Type: application/json", f"Content-Length: {10 * MIB}", "Expect: 100-continue")


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize("token", ["", "guess", "the other's"])
def test_a_stranger_gets_the_401_before_a_byte_of_the_body_and_the_connection_ends(
    served: Served, method: str, path: str, token: str
) -> None:
    sent = {"the other's": ADMIN if path.startswith("/api") else AUTH}.get(token, token)

    status, answer = answered(served, head(method, path, sent, *JSON_TO_COME))

    assert status == 401
    assert "100 Continue" not in answer
    assert "connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(head("POST", "/cockpit/mode", "", f"Content-Length: {10 * MIB}"), 303, id="a form without the cookie"),
        pytest.param(head("POST", "/nowhere", AUTH, *JSON_TO_COME), 404, id="no such path"),
        pytest.param(head("PATCH", "/api/articles/x", AUTH, *JSON_TO_COME), 405, id="no such method"),
        pytest.param(
            head("POST", "/api/articles", AUTH, "Content-Type: text/csv", "Content-Length: 9"), 415, id="another kind"
        ),
        pytest.param(
            head("POST", "/api/articles", AUTH, "Origin: https://evil.example", *JSON_TO_COME), 403, id="another site"
        ),
        pytest.param(head("GET", "/api/articles", AUTH, "Content-Length: 1000"), 200, id="a body that nobody wants"),
    ],
)
def test_what_needs_no_body_is_answered_without_it(served: Served, request_: bytes, status: int) -> None:
    found, answer = answered(served, request_)

    assert found == status
    assert "100 Continue" not in answer


@pytest.mark.parametrize("size", [100_000, 12 * MIB])
def test_a_stranger_who_sends_all_of_the_body_first_still_gets_the_answer(served: Served, size: int) -> None:
    answers = [
        served.stranger.post("/api/articles", content=b"x" * size, headers={"Content-Type": "application/json"})
        for _ in range(3)
    ]

    assert [answer.status_code for answer in answers] == [401] * 3


# Slow clients -----------------------------------------------------------------------------------------------------------------------


def ends_while_dripping(connection: socket.socket, drip: bytes, within_s: float = 20.0) -> bytes:
    """What comes back while a byte is sent every tenth of a second, until the service ends it. AssertionError if it does not."""
    connection.settimeout(0.1)
    found, until_ = b"", time.monotonic() + within_s
    while time.monotonic() < until_:
        try:
            connection.send(drip)
            piece = connection.recv(65_536)
        except TimeoutError:
            continue
        except OSError:
            return found
        if not piece:
            return found
        found += piece
    raise AssertionError(f"still open after {within_s:g} s: {found!r}")


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"", id="a byte at a time from the start"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", id="after a request that was answered"),
    ],
)
def test_a_head_that_is_dripped_ends_the_connection(hasty: Served, begun: bytes) -> None:
    with connected(hasty) as connection:
        connection.sendall(begun + b"GET /health HTTP/1.1\r\nX: ")
        ends_while_dripping(connection, b"y")

    assert hasty.stranger.get("/health").status_code == 200


def test_a_connection_that_says_nothing_is_ended(hasty: Served) -> None:
    with connected(hasty) as connection:
        assert ends_while_dripping(connection, b"") == b""


@pytest.mark.parametrize("framing", [f"Content-Length: {MIB}", "Transfer-Encoding: chunked"])
def test_a_body_that_is_dripped_has_a_total_time(hasty: Served, framing: str) -> None:
    with connected(hasty) as connection:
        connection.sendall(head("POST", "/api/articles", AUTH, "Content-Type: application/json", framing))
        answer = ends_while_dripping(connection, b"1\r\n \r\n" if "chunked" in framing else b" ")

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:embedq:too-slow" in answer


def test_a_client_that_does_not_take_its_answer_is_let_go(hasty: Served) -> None:
    with connected(hasty) as connection:
        # More answers than the buffers of both sides hold.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = head("GET", "/docs/assets/swagger-ui-bundle.js", "")
        connection.sendall(request * 20)
        connection.settimeout(0.1)
        until(lambda: is_gone(connection, request))


def is_gone(connection: socket.socket, request: bytes) -> bool:
    try:
        connection.send(request)
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


# Sizes ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "token", "size"),
    [
        ("/api/articles", AUTH, 16 * MIB + 1),
        ("/api/articles/batch", AUTH, 16 * MIB + 1),
        ("/api/search", AUTH, MIB + 1),
        ("/admin/mode", ADMIN, 65_537),
        ("/cockpit/signin", "", 16_385),
    ],
)
def test_each_path_takes_as_much_as_it_can_use_declared_or_in_chunks(served: Served, path: str, token: str, size: int) -> None:
    kind = "Content-Type: application/x-www-form-urlencoded" if "cockpit" in path else "Content-Type: application/json"
    declared, answer = answered(served, head("POST", path, token, kind, f"Content-Length: {size}"))
    with connected(served) as connection:
        connection.sendall(head("POST", path, token, kind, "Transfer-Encoding: chunked") + f"{size:x}\r\n".encode())
        connection.sendall(b" " * size)
        chunked = to_the_end(connection).decode()

    assert declared == 413
    assert "urn:embedq:too-large" in answer
    assert chunked.startswith("HTTP/1.1 413")


def test_large_bodies_together_have_a_bound_and_small_ones_pass_beside_them(hasty: Served) -> None:
    until_complete = head("POST", "/api/articles", AUTH, "Content-Type: application/json", f"Content-Length: {3 * MIB}")

    def almost_all(_: int) -> bytes:
        with connected(hasty) as connection:
            connection.sendall(until_complete)
            try:
                connection.sendall(b'{"title": "' + b"x" * (3 * MIB - 100))
            except OSError:
                pass  # it was answered meanwhile
            return connection.recv(12)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(almost_all, number) for number in range(8)]
        small = [hasty.articles.post("/api/articles", json={"title": "small"}).status_code for _ in range(20)]
        found = {one.result()[-3:] for one in answers}

    assert set(small) == {201}
    assert found <= {b"408", b"503"}
    assert b"503" in found


# JSON -------------------------------------------------------------------------------------------------------------------------------


def longest(served: Served, seconds: float) -> float:
    """The longest that another client waited for the health meanwhile."""
    until_, most = time.monotonic() + seconds, 0.0
    with httpx.Client(base_url=served.url, timeout=60) as other:
        while time.monotonic() < until_:
            started_at = time.monotonic()
            assert other.get("/health").status_code == 200
            most = max(most, time.monotonic() - started_at)
    return most


@pytest.mark.parametrize("bomb", ["[]", "{}", "0", '""', "[[[[]]]]"])
def test_a_bomb_of_json_is_refused_and_freezes_nobody_else(served: Served, bomb: str) -> None:
    body = f'{{"title": "x", "metadata": {{"a": [{",".join([bomb] * (15 * MIB // (len(bomb) + 1)))}]}}}}'.encode()

    def send(_: int) -> httpx.Response:
        return httpx.post(
            f"{served.url}/api/articles", content=body, headers=FOR_ARTICLES | {"Content-Type": "application/json"}, timeout=120
        )

    with ThreadPoolExecutor(3) as pool:
        sent = [pool.submit(send, number) for number in range(6)]
        waited_s = longest(served, 2.0)
        answers = [one.result() for one in sent]

    assert {answer.status_code for answer in answers} == {400}
    assert problem(answers[0])["field"] == "body"
    assert "values" in str(problem(answers[0])["detail"])
    assert waited_s < 1.5


@pytest.mark.parametrize(
    ("depth", "field"), [(64, None), (66, "metadata"), (150, "metadata"), (1000, "body"), (1_000_000, "body")]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "batch"])
def test_metadata_is_nested_so_deep_and_no_deeper(served: Served, method: str, depth: int, field: str | None) -> None:
    metadata = '{"a": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    article = f'{{"title": "x", "metadata": {metadata}}}'
    body = f'{{"articles": [{article}]}}' if method == "batch" else article
    headers = {"Content-Type": "application/json"}
    served.articles.post("/api/articles", json={"title": "x", "id": "deep"})

    verb, path = {"POST": ("POST", ""), "PUT": ("PUT", "/deep"), "batch": ("POST", "/batch")}[method]
    answer = served.articles.request(verb, f"/api/articles{path}", content=body, headers=headers)

    if field is None:
        assert answer.is_success
    else:
        assert answer.status_code in (400, 422)
        assert str(problem(answer)["field"]).endswith(field)
        assert "nested" in str(problem(answer)["detail"])


ONES = ",".join(["1"] * 90_000)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(f'{{"title": "x", "metadata": {{"{"k" * 8 * MIB}": [{ONES}]}}}}', id="a path of 8 MB, often"),
        pytest.param(f'{{"title": "x", {",".join(f""""{number}": 1""" for number in range(90_000))}}}', id="unknown names"),
        pytest.param(f'{{"articles": [{ONES}]}}', id="what are no articles"),
        pytest.param(f'{{"articles": [{",".join(["""{"title": 1, "x": 2}"""] * 20_000)}]}}', id="wrong articles"),
    ],
)
def test_many_mistakes_at_once_cost_little_more_than_one(served: Served, raw: str) -> None:
    path = "/api/articles/batch" if raw.startswith('{"articles') else "/api/articles"

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(served.articles.post, path, content=raw, headers={"Content-Type": "application/json"})
        waited_s = longest(served, 1.0)
        answer = sent.result()

    assert answer.status_code in (201, 400, 422)
    assert len(answer.content) < 10 * MIB
    assert waited_s < 1.5


@pytest.mark.parametrize("text", [b"\\u0000", b"\\ud800", b"\\udfff\\ud800", b"\xed\xa0\x80"])
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/articles", '{"title": "%s"}', "title"),
        ("/api/articles", '{"content": "x%s"}', "content"),
        ("/api/articles", '{"title": "x", "id": "x%s"}', "id"),
        ("/api/articles", '{"title": "x", "slug": "x%s"}', "slug"),
        ("/api/articles", '{"title": "x", "tenant_id": "x%s"}', "tenant_id"),
        ("/api/articles", '{"title": "x", "reason": "x%s"}', "reason"),
        ("/api/articles", '{"title": "x", "metadata": {"a": ["%s"]}}', "metadata"),
        ("/api/articles", '{"title": "x", "metadata": {"%s": 1}}', "metadata"),
        ("/api/articles", '{"title": "x", "priority": "%s"}', "priority"),
        ("/api/articles/batch", '{"articles": [{"title": "x"}, {"title": "%s"}]}', "articles[1].title"),
        ("/api/articles/batch", '{"articles": [{"title": "x"}], "reason": "%s"}', "reason"),
        ("/api/search", '{"query": "x%s"}', "query"),
        ("/api/search", '{"query": ["x", "%s"]}', "query"),
        ("/api/search", '{"query": "x", "tenant_id": "%s"}', "tenant_id"),
        ("/api/search", '{"query": "x", "filter": {"a": "%s"}}', "filter.a"),
        ("/api/search", '{"query": "x", "filter": {"%s": 1}}', "filter"),
        ("/admin/mode", '{"mode": "celery", "reason": "x%s"}', "reason"),
        ("/admin/mode", '{"mode": "%s", "reason": "x"}', "mode"),
        ("/admin/embedding/requeue", '{"tenant_id": "x%s"}', "tenant_id"),
        ("/admin/embedding/requeue", '{"reason": "x%s"}', "reason"),
        ("/admin/maintenance/schedule", '{"starts_at": "2030-01-01T00:00:00Z%s", "reason": "x"}', "starts_at"),
        ("/admin/queue/shutdown-workers", '{"reason": "%s"}', "reason"),
    ],
)
def test_no_text_that_postgresql_cannot_hold_gets_in_anywhere(
    served: Served, path: str, body: str, field: str, text: bytes
) -> None:
    token = FOR_ARTICLES if path.startswith("/api") else FOR_ADMIN
    raw = body.encode().replace(b"%s", text)

    answer = served.stranger.post(path, content=raw, headers=token | {"Content-Type": "application/json"})

    assert answer.status_code == 422, answer.text
    assert problem(answer)["field"] == field


@pytest.mark.parametrize(
    ("path", "body", "accepted"),
    [
        ("/api/search", '{"query": "x", "k": 18.0}', True),
        ("/api/search", '{"query": "x", "k": 1.8e1}', True),
        ("/api/search", '{"query": "x", "k": 18.5}', False),
        ("/api/search", '{"query": "x", "k": true}', False),
        ("/api/search", '{"query": "x", "k": "18"}', False),
        ("/api/search", '{"query": "x", "k": 1e400}', False),
        ("/api/search", '{"query": "x", "k": null}', False),
        ("/api/search", '{"query": "x", "min_score": true}', False),
        ("/api/search", '{"query": "x", "min_score": 0}', True),
        ("/admin/embedding/requeue", '{"limit": 5.0}', True),
        ("/admin/embedding/requeue", '{"limit": 5.5}', False),
        ("/admin/embedding/requeue", '{"limit": 1e300}', False),
    ],
)
def test_a_number_is_an_integer_when_the_schema_says_so(served: Served, path: str, body: str, accepted: bool) -> None:
    token = FOR_ARTICLES if path.startswith("/api") else FOR_ADMIN

    answer = served.stranger.post(path, content=body, headers=token | {"Content-Type": "application/json"})

    assert answer.status_code == (200 if accepted else 422), answer.text
    assert accepted or problem(answer)["field"] in ("k", "min_score", "limit")


# Connections ------------------------------------------------------------------------------------------------------------------------

HALF_OPEN = 80
FEW_FILES = ["sh", "-c", f"ulimit -n 64; exec {sys.executable} -m embedq serve --port 0"]


@pytest.mark.parametrize("begun", [b"", b"GET /health HTTP/1.1\r\nX: "])
def test_with_few_files_half_open_connections_neither_shut_anybody_out_nor_fill_the_log(
    world: dict[str, str], begun: bytes
) -> None:
    with started(FEW_FILES, world) as served, ExitStack() as half_open:
        for _ in range(HALF_OPEN):
            connection = half_open.enter_context(connected(served))
            connection.sendall(begun)

        health = [httpx.get(f"{served.url}/health", timeout=10).status_code for _ in range(10)]
        saved = [served.articles.post("/api/articles", json={"title": "Tea"}, timeout=20).status_code for _ in range(5)]
        # With 64 files one address has 4 connections; one rests after the saves.
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(lambda _: httpx.get(f"{served.url}/health", timeout=20).status_code, range(20)))
        log = served.process.output()

    assert set(health + together) == {200}
    assert set(saved) == {201}
    assert len(log) < 20_000
    assert "Traceback" not in log


def test_one_address_gets_half_and_who_is_at_work_is_not_hung_up_on(world: dict[str, str]) -> None:
    request = head(
        "POST", "/api/articles", AUTH, "Content-Type: application/json", "Content-Length: 14", "Expect: 100-continue"
    )
    with started(FEW_FILES, world) as served, ExitStack() as stack:
        at_work, turned_away = [], []
        for number in range(HALF_OPEN):
            connection = stack.enter_context(connected(served, "127.0.0.2"))
            connection.sendall(request)
            (at_work if connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n" else turned_away).append(connection)
            if number % 10 == 0:
                assert httpx.get(f"{served.url}/health", timeout=10).status_code == 200
        for connection in at_work:
            connection.sendall(b'{"title": "x"}')
        answers = {connection.recv(12) for connection in at_work}
        refusal = to_the_end(turned_away[-1]).decode()

    assert answers == {b"HTTP/1.1 201"}
    assert len(turned_away) > HALF_OPEN / 2
    assert "Retry-After: " in refusal
    assert json.loads(refusal.partition("\r\n\r\n")[2])["type"] == "urn:embedq:crowded"


def test_what_is_no_http_is_a_problem_and_hardly_a_line_in_the_log(served: Served) -> None:
    before = len(served.process.output())

    answers = [
        answered(served, request)[1]
        for request in [b"\x16\x03\x01 TLS\r\n\r\n", b"BREW\r\n\r\n", b"GET / HTTX/1.1\r\n\r\n"] * 30
    ]

    assert {answer.split(" ", 2)[1] for answer in answers} == {"400"}
    assert all("application/problem+json" in answer and "nosniff" in answer for answer in answers)
    assert len(served.process.output()) - before < 2000


def test_a_head_without_end_is_refused(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX: " + b"y" * 40_000)
        answer = to_the_end(connection)

    assert answer.startswith(b"HTTP/1.1 400")
