"""Whatever a provider does, it takes a bounded time and a bounded size, and gets the texts alone: nobody else does (G12, G6)."""

from __future__ import annotations

import asyncio
import gzip
import json
import select
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from pybase64 import b64encode

from embedq.errors import ConfigError, EmbedqError, ProviderBusy
from embedq.model import Model
from embedq.providers import ProviderSettings
from embedq.providers.registry import make
from embedq.providers.waits import MAX_RETRY_AFTER_S
from tests.hostile import DRIPS, FLOODS, OK, VALUES, WAYS, hostile
from tests.support import ROOT, run_command, until

DEADLINE_S = 0.6
LATEST_S = DEADLINE_S + 0.9  # for a machine that does something else as well
MODELS = {"openai": Model("openai", "m", 8), "ollama": Model("ollama", "m", 8)}
TEXTS = ["one", "two"]
VECTOR = [0.5] * 8


@pytest.fixture(scope="module")
def server():
    with hostile() as started:
        yield started


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def by_thread(provider, texts):
    return provider.embed(texts)


def by_event_loop(provider, texts):
    async def ask():
        try:
            return await provider.aembed(texts)
        finally:
            await provider.aclose()

    return asyncio.run(ask())


@pytest.fixture(params=[by_thread, by_event_loop], ids=lambda way: way.__name__, autouse=True)
def asks(request, monkeypatch):
    """All that is promised of `embed` is promised of `aembed`."""
    monkeypatch.setattr(sys.modules[__name__], "ask", request.param)


ask = by_thread


def asked(kind, address, timeout_s=DEADLINE_S, texts=TEXTS):
    """What the provider raises or returns, and how long it took."""
    settings = ProviderSettings(openai_base_url=address, ollama_base_url=address, timeout_s=timeout_s)
    provider = make(MODELS[kind], settings)
    started = time.monotonic()
    try:
        found = ask(provider, texts)
    except EmbedqError as error:
        found = error
    finally:
        provider.close()
    return found, time.monotonic() - started


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", DRIPS)
def test_one_deadline_holds_whatever_drips(server, kind, way):
    found, took_s = asked(kind, server.url(way))

    assert isinstance(found, ProviderBusy), found
    assert "in time" in str(found)
    assert took_s < LATEST_S


def test_one_deadline_holds_while_the_text_is_being_sent():
    def reads_slowly(visit):
        visit.link.settimeout(None)
        while not visit.closing.wait(0.1):
            visit.link.recv(4_096)

    with hostile(greeting=reads_slowly) as server:
        found, took_s = asked("openai", server.url(), texts=["x" * 30_000_000])

    assert isinstance(found, ProviderBusy)
    assert "in time" in str(found)
    assert took_s < LATEST_S + 1.0  # 30 MB are made into JSON before


@pytest.mark.parametrize(
    "greeting",
    [
        pytest.param(lambda visit: visit.drip(b""), id="silence"),
        pytest.param(lambda visit: (visit.send(b"\x16\x03\x03\x40\x00"), visit.drip(b"\x02"))[1], id="a record that drips"),
        pytest.param(lambda visit: visit.drip(b"\x14\x03\x03\x00\x01\x01"), id="records that drip"),
    ],
)
def test_one_deadline_holds_while_tls_begins(greeting):
    with hostile(greeting=greeting) as server:
        found, took_s = asked("openai", server.url(scheme="https"))

    assert isinstance(found, ProviderBusy)
    assert took_s < LATEST_S


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_one_deadline_holds_behind_a_proxy(monkeypatch, scheme):
    with hostile(greeting=lambda visit: (visit.send(b"HTTP/1.1 200 OK\r\n"), visit.drip(b"X: a\r\n"))[1]) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url())
        found, took_s = asked("openai", f"{scheme}://provider.invalid/v1")

    assert isinstance(found, ProviderBusy)
    assert "in time" in str(found)
    assert took_s < LATEST_S


def test_all_addresses_of_a_host_together_have_the_time_of_one_connection(monkeypatch):
    """A name server may give a hundred addresses of which none answers; here they are one listener whose queue is full."""
    resolve = socket.getaddrinfo

    def many(host, port, *more, **named):
        found = resolve("127.0.0.1" if "many" in str(host) else host, port, *more, **named)
        return found * 100 if "many" in str(host) else found

    monkeypatch.setattr("embedq.providers.sockets._addresses", lambda host, port: ["127.0.0.1"] * 100)
    monkeypatch.setattr(socket, "getaddrinfo", many)
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            link = waiting.enter_context(socket.socket())
            link.setblocking(False)
            link.connect_ex(full.getsockname())

        found, took_s = asked("openai", f"http://many.invalid:{full.getsockname()[1]}")

    assert isinstance(found, ProviderBusy)
    assert "in time" in str(found)
    assert took_s < LATEST_S


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of 127.0.0.1, with its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    path = tmp_path_factory.mktemp("certificate") / "one.pem"
    request = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tests"
    subprocess.run(
        [*request.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{path}.key", "-out", str(path)],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.key").read_text())
    return path


@pytest.mark.parametrize("way", ["good", "drips-head", "drips-chunks", "gzip-bomb", "endless-body", "drips-tls"])
def test_the_bounds_hold_inside_the_tls_of_a_proxy(monkeypatch, certificate, way):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    answer = json.dumps({"data": [datum(VECTOR), datum(VECTOR, 1)]}).encode()
    with hostile(WAYS | {"good": lambda visit: visit.answer(answer)}, tls=tls) as server:

        def tunnel(visit):
            """CONNECT is answered, and then everything is passed on; or, once the tunnel stands, a record is begun and never ended."""
            visit.link.recv(65_536)
            visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
            if way == "drips-tls":
                visit.send(b"\x16\x03\x03\x40\x00")
                visit.drip(b"\x02")
            with socket.create_connection(("127.0.0.1", server.port)) as onward:
                pass_on(visit.link, onward)

        with hostile(greeting=tunnel, tls=tls) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url(scheme="https"))
            timeout_s = DEADLINE_S if "drips" in way else 20
            found, took_s = asked("openai", server.url(way, scheme="https"), timeout_s=timeout_s)

    if way == "good":
        np.testing.assert_array_equal(found.vectors, [VECTOR] * 2)
    else:
        assert isinstance(found, ProviderBusy)
        assert ("in time" if "drips" in way else "more than was asked for") in str(found)
        assert took_s < (LATEST_S if "drips" in way else 10)


def pass_on(tls, plain):
    """Both ways in one thread, until either end closes: a TLS socket must not be read and written at the same time."""
    while True:
        ready = [tls] if tls.pending() else select.select([tls, plain], [], [])[0]
        for source, sink in ((tls, plain), (plain, tls)):
            if source in ready:
                piece = source.recv(65_536)
                if not piece:
                    return
                sink.sendall(piece)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", [*FLOODS, *VALUES])
def test_what_is_too_much_or_makes_no_sense_is_the_providers_fault(server, kind, way):
    found, took_s = asked(kind, server.url(way), timeout_s=20)

    assert isinstance(found, ProviderBusy), found
    assert len(str(found)) < 700
    assert took_s < 10


@pytest.mark.parametrize("way", FLOODS)
def test_more_than_was_asked_for_pauses_the_provider_and_suspects_no_text(server, way):
    found, _ = asked("openai", server.url(way), timeout_s=20)

    if "head" not in way and "trailers" not in way and "extension" not in way:  # those are malformed sooner
        assert "more than was asked for" in str(found)
        assert found.suspect_input is False
        assert found.retry_after_s >= 60


CHILD = """
import json, resource, sys
from embedq.errors import EmbedqError
from embedq.model import Model
from embedq.providers import ProviderSettings
from embedq.providers.registry import make
provider = make(Model("openai", "m", 1536), ProviderSettings(openai_base_url="http://127.0.0.1:9", timeout_s=20))
try:
    provider.embed(["warm"])
except EmbedqError:
    pass
found = {}
for line in sys.stdin:
    way, url = line.split()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    provider = make(Model("openai", "m", 1536), ProviderSettings(openai_base_url=url, timeout_s=20))
    try:
        provider.embed(["text"] * 100)
    except EmbedqError:
        pass
    found[way] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps(found))
"""


def test_no_answer_takes_more_memory_than_a_few_good_ones(server):
    """100 texts of 1,536 dimensions: a good answer in lists of numbers takes 11 MB, as bytes and as numbers."""
    lines = "".join(f"{way} {server.url(way)}\n" for way in WAYS if way not in DRIPS)

    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=lines, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True
    )

    grown_kb = json.loads(done.stdout)
    assert max(grown_kb.values()) < 120_000, grown_kb
    assert sum(grown_kb.values()) < 160_000, grown_kb


# Redirects


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308, 399])
def test_a_redirect_is_not_followed_and_says_which_setting_to_change(kind, status):
    with hostile({"": lambda visit: visit.answer(b"{}"), "v1": lambda visit: visit.answer(b"{}")}) as other:
        location = f"http://user:SECRET@localhost:{other.port}/v1/SECRET?key=SECRET"
        head = f"HTTP/1.1 {status} Away\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        with hostile({"here": lambda visit: visit.send(head)}) as server:
            found, _ = asked(kind, server.url("here"), timeout_s=5)

    assert other.visits == []
    assert isinstance(found, ProviderBusy)
    assert f"localhost:{other.port}" in str(found)
    assert "SECRET" not in str(found)
    assert f"{kind.upper()}_BASE_URL" in found.hint
    assert found.suspect_input is False
    assert found.retry_after_s >= 60


@pytest.mark.parametrize(
    "location", ["", "/v1/other", "http://[::1", "http://h:port/", "\x1b[2J", "//other.invalid/v1", "x" * 5_000]
)
def test_a_redirect_to_anywhere_is_told_in_a_line(location):
    head = b"HTTP/1.1 307 Away\r\nLocation: " + location.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n"
    with hostile({"here": lambda visit: visit.send(head)}) as server:
        found, _ = asked("openai", server.url("here"), timeout_s=5)

    assert isinstance(found, ProviderBusy)
    assert str(found).isprintable()


def test_cookies_of_a_provider_are_not_sent_back(server):
    answer = json.dumps({"data": [{"index": number, "embedding": VECTOR} for number in range(2)]}).encode()
    with hostile({"good": lambda visit: visit.answer(answer, b"Set-Cookie: a=b", b"Connection: close")}) as server:
        provider = make(MODELS["openai"], ProviderSettings(openai_base_url=server.url("good")))
        provider.embed(TEXTS)
        provider.embed(TEXTS)
        provider.close()

    assert not any(b"cookie" in head.lower() for head in server.heads)


# Waits


@pytest.mark.parametrize(
    ("wish", "least", "most"),
    [
        pytest.param("999999999999", 3_600, 3_600, id="thirty thousand years"),
        pytest.param("1e400", None, None, id="infinity"),
        pytest.param("-5", 0, 0, id="in the past"),
        pytest.param("NaN", None, None, id="no number"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 3_600, 3_600, id="a date far away"),
        pytest.param("Fri, 31 Dec 99999 23:59:59 GMT", None, None, id="no date"),
        pytest.param("Mon, 01 Jan 0001 00:00:00 -2359", None, 0, id="a date long ago"),
        pytest.param("9" * 5_000, None, None, id="too many digits"),
        pytest.param("soon; or later", None, None, id="words"),
        pytest.param("٣", 0, 3_600, id="digits of another script"),
    ],
)
def test_a_wish_to_wait_is_an_hour_at_most(wish, least, most):
    head = b"HTTP/1.1 503 No\r\nContent-Length: 2\r\nRetry-After: " + wish.encode() + b"\r\n\r\n{}"
    with hostile({"busy": lambda visit: visit.send(head)}) as server:
        found, took_s = asked("openai", server.url("busy"), timeout_s=5)

    assert isinstance(found, ProviderBusy)
    assert took_s < 2
    wait_s = found.retry_after_s
    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S
    if least is not None:
        assert wait_s is None or least <= wait_s <= most


# Values


def datum(embedding, index=0, **more):
    return {"index": index, "embedding": embedding, **more}


INFINITE = b64encode(np.array([1, 2, 3, 4, 5, 6, 7, np.inf], dtype="<f4").tobytes()).decode()
SPOILT = {
    "strings": ["0.5"] * 8,
    "one string": [*VECTOR[1:], "0.5"],
    "null": [*VECTOR[1:], None],
    "true": [*VECTOR[1:], True],
    "false": [*VECTOR[1:], False],
    "lists": [[0.5]] * 8,
    "objects": [{}] * 8,
    "too large for a float": [*VECTOR[1:], 10**400],
    "infinite as float32": [*VECTOR[1:], 1e300],
    "zeros": [0] * 8,
    "a number": 0.5,
    "an object": {"0": 0.5},
    "null itself": None,
    "true itself": True,
    "base64 of infinity": INFINITE,
    "base64 of half a number": b64encode(b"123456789").decode(),
    "no base64": "§" * 12,
    "empty": [],
    "empty text": "",
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_vector_of_the_wrong_kind_is_refused(kind, spoilt):
    data = {"data": [datum(VECTOR), datum(SPOILT[spoilt], 1)]} if kind == "openai" else {"embeddings": [VECTOR, SPOILT[spoilt]]}
    body = json.dumps(data).encode()
    with hostile({"spoilt": lambda visit: visit.answer(body)}) as server:
        found, _ = asked(kind, server.url("spoilt"), timeout_s=5)

    assert isinstance(found, ProviderBusy), found


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused(literal):
    body = json.dumps({"data": [datum(VECTOR), datum("HERE", 1)]}).replace('"HERE"', f"[{', '.join([literal] * 8)}]").encode()
    with hostile({"spoilt": lambda visit: visit.answer(body)}) as server:
        found, _ = asked("openai", server.url("spoilt"), timeout_s=5)

    assert isinstance(found, ProviderBusy)


@pytest.mark.parametrize("index", [0, -1, 2, 10**30, 1.0, True, "1", None, [1], {"a": 1}], ids=str)
def test_an_index_of_the_wrong_kind_is_refused(index):
    body = json.dumps({"data": [datum(VECTOR), datum(VECTOR, index)]}).encode()
    with hostile({"spoilt": lambda visit: visit.answer(body)}) as server:
        found, _ = asked("openai", server.url("spoilt"), timeout_s=5)

    assert isinstance(found, ProviderBusy)


@pytest.mark.parametrize("said", [10**30, 10**9, -1, 0, 1.5, "12", True, None, [], {}], ids=str)
@pytest.mark.parametrize("kind", MODELS)
def test_tokens_that_cannot_be_are_estimated(kind, said):
    data = [datum(VECTOR), datum(VECTOR, 1)]
    body = (
        {"data": data, "usage": {"total_tokens": said}}
        if kind == "openai"
        else {"embeddings": [VECTOR] * 2, "prompt_eval_count": said}
    )
    with hostile({"good": lambda visit: visit.answer(json.dumps(body).encode())}) as server:
        found, _ = asked(kind, server.url("good"), timeout_s=5)

    assert found.tokens == 2


# What must go on working


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("x-gzip", gzip.compress, id="x-gzip"),
        pytest.param("GZIP", gzip.compress, id="in capitals"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("deflate", lambda raw: zlib.compress(raw)[2:-4], id="deflate without a header"),
        pytest.param("identity", bytes, id="identity"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "in chunks"])
def test_a_packed_answer_is_read(encoding, pack, chunked):
    vectors = np.random.default_rng(1).standard_normal((300, 8))
    raw = json.dumps({"data": [datum(vector.tolist(), number) for number, vector in enumerate(vectors)]}).encode()
    packed = pack(raw)
    header = f"Content-Encoding: {encoding}".encode()

    def in_chunks(visit):
        visit.send(OK, header, b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(packed), 999):
            piece = packed[at : at + 999]
            visit.send(b"%x\r\n" % len(piece), piece, b"\r\n")
        visit.send(b"0\r\n\r\n")

    with hostile({"good": in_chunks if chunked else lambda visit: visit.answer(packed, header)}) as server:
        found, _ = asked("openai", server.url("good"), timeout_s=5, texts=["text"] * 300)

    np.testing.assert_array_equal(found.vectors, vectors.astype(np.float32))


@pytest.mark.parametrize(
    ("end", "target"),
    [
        pytest.param("v1", "/v1/embeddings", id="usual"),
        pytest.param("v1/", "/v1/embeddings", id="with a slash"),
        pytest.param("", "/embeddings", id="no path"),
        pytest.param("v1?api-version=2024&key=k%20k", "/v1/embeddings?api-version=2024&key=k%20k", id="with a query"),
        pytest.param("a%2Fb/v1", "/a%2Fb/v1/embeddings", id="encoded"),
    ],
)
def test_the_path_is_below_that_of_the_address_and_its_query_stays(end, target):
    with hostile(
        {name: lambda visit: visit.answer(b"{}") for name in ("v1", "embeddings", "a%2Fb", "v1?api-version=2024&key=k%20k")}
    ) as server:
        asked("openai", server.url(end), timeout_s=5)

    assert server.visits == [target]


def test_user_and_password_of_an_address_are_sent_when_there_is_no_key():
    with hostile({"v1": lambda visit: visit.answer(b"{}")}) as server:
        address = f"http://me:p%40ss@127.0.0.1:{server.port}/v1"
        asked("openai", address, timeout_s=5)
        make(MODELS["openai"], ProviderSettings("sk-key", address))
        with pytest.raises(ProviderBusy):
            make(
                MODELS["openai"], ProviderSettings("sk-key", address, openai_organization="org-1", openai_project="p-1")
            ).embed(["x"])

    assert b"Authorization: Basic bWU6cEBzcw==" in server.heads[0]
    assert b"Authorization: Bearer sk-key" in server.heads[1]
    assert b"Basic" not in server.heads[1]
    assert b"OpenAI-Organization: org-1" in server.heads[1]
    assert b"OpenAI-Project: p-1" in server.heads[1]


def test_a_proxy_of_the_environment_is_used_unless_the_server_is_excepted(monkeypatch):
    answer = json.dumps({"data": [datum(VECTOR), datum(VECTOR, 1)]}).encode()
    with hostile(greeting=None, ways={"": lambda visit: visit.answer(answer)}) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
        found, _ = asked("openai", "http://provider.invalid/v1", timeout_s=5)
        monkeypatch.setenv("no_proxy", "provider.invalid")
        direct, _ = asked("openai", "http://provider.invalid/v1", timeout_s=5)

    assert proxy.visits == ["http://provider.invalid/v1/embeddings"]
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in proxy.heads[0]
    np.testing.assert_array_equal(found.vectors, [VECTOR] * 2)
    assert isinstance(direct, ProviderBusy)


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"http_proxy": "gopher://127.0.0.1:1"}, id="a proxy of an unknown kind"),
        pytest.param({"http_proxy": "http://[::1"}, id="a proxy that is no address"),
        pytest.param({"http_proxy": "http://user:CANARY@:80:90/"}, id="a proxy with a secret"),
        pytest.param({"http_proxy": "socks5://127.0.0.1:1"}, id="a SOCKS proxy without its package"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_matter_of_configuration(monkeypatch, environment):
    monkeypatch.setattr("embedq.providers.proxies.find_spec", lambda name: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as wrong:
        make(MODELS["openai"], ProviderSettings(openai_base_url="http://provider.invalid/v1"))

    assert "CANARY" not in f"{wrong.value} {wrong.value.hint}"
    assert wrong.value.__context__ is None


def test_certificates_that_are_not_there_are_a_matter_of_configuration(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")

    with pytest.raises(ConfigError, match="certificates"):
        make(MODELS["openai"], ProviderSettings("sk-key"))


# The whole product


@pytest.mark.parametrize("way", ["drips-head", "gzip-bomb", "redirect", "busy-for-ever"])
def test_a_hostile_provider_pauses_the_provider_and_costs_no_task(fresh, server, way):
    with hostile() as other:
        ways = WAYS | {
            "redirect": lambda visit: visit.send(
                b"HTTP/1.1 307 Away\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % other.url("good").encode()
            ),
            "busy-for-ever": lambda visit: visit.send(
                b"HTTP/1.1 503 No\r\nContent-Length: 2\r\nRetry-After: 999999999999\r\n\r\n{}"
            ),
        }
        with hostile(ways) as bad:
            fresh.start(OPENAI_BASE_URL=bad.url(way), EMBEDDING_PROVIDER_TIMEOUT="500")
            fresh.add({"a": "one text", "b": "another"})

            until(lambda: fresh.provider()["faults"], 30, fresh.story)

            open_states = "SELECT count(*), max(attempts) FROM embedding_tasks WHERE status IN ('pending', 'processing')"
            assert fresh.sql(open_states) == [(2, 0)]
    assert fresh.sql("SELECT max(paused_until) <= clock_timestamp() + interval '1 hour' FROM embedding_providers") == [(True,)]
    assert fresh.stored() == {}
    assert other.visits == []


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", ["drips-body", "gzip-bomb", "deep"])
def test_provider_check_names_it_and_ends_in_time(server, kind, way):
    done = run_command(
        {
            "EMBEDDING_PROVIDER": kind,
            "EMBEDDING_MODEL": "m",
            "EMBEDDING_DIMENSIONS": "8",
            "EMBEDDING_PROVIDER_TIMEOUT": "500",
            "OPENAI_BASE_URL": server.url(way),
            "OLLAMA_BASE_URL": server.url(way),
            "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        },
        "provider",
        "check",
        timeout_s=30.0,
    )

    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
