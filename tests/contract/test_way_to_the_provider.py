"""What the settings and the environment say of the way to a provider: proxies, further headers, Azure."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import contextmanager

import httpx
import pytest

from embedq import wiring
from embedq.errors import ConfigError
from embedq.model import Model
from embedq.providers.proxies import proxy_for
from embedq.settings import from_env
from tests.dialects import DIMENSIONS, dialects
from tests.support import run_command

MODEL = Model("openai", "a-model", DIMENSIONS)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with dialects() as started:
        yield started


class Socks:
    """A SOCKS 5 proxy on loopback that goes to one port whatever it is asked for. `wanted`: the hosts it was asked for; `users`: who asked."""

    def __init__(self, onward: int) -> None:
        self.onward, self.wanted, self.users = onward, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.visit, args=(link,), daemon=True).start()

    def visit(self, link: socket.socket) -> None:
        _, count = link.recv(2)
        methods = link.recv(count)
        link.sendall(b"\5\2" if 2 in methods else b"\5\0")
        if 2 in methods:
            user = link.recv(link.recv(2)[1])
            self.users.append((user.decode(), link.recv(link.recv(1)[0]).decode()))
            link.sendall(b"\1\0")
        kind = link.recv(4)[3]
        host = link.recv(link.recv(1)[0]).decode() if kind == 3 else socket.inet_ntoa(link.recv(4))
        self.wanted.append((host, struct.unpack(">H", link.recv(2))[0]))
        link.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        with link, socket.create_connection(("127.0.0.1", self.onward)) as onward:
            pass_on(link, onward)


def pass_on(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65_536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


@contextmanager
def socks(onward: int):
    proxy = Socks(onward)
    try:
        yield proxy
    finally:
        proxy.listener.close()


def embedded(environment):
    provider = wiring.provider_factory(from_env({"EMBEDDING_PROVIDER": "openai", "OPENAI_API_KEY": "key", **environment}))(
        MODEL
    )
    try:
        return provider.embed(["tea"]).vectors
    finally:
        provider.close()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
@pytest.mark.parametrize("who", ["", "me:secret@"])
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_a_socks_proxy_is_used_and_told_the_name_of_the_server(server, monkeypatch, scheme, who, name):
    with socks(server.port) as proxy:
        monkeypatch.setenv(name, f"{scheme}://{who}127.0.0.1:{proxy.port}")

        vectors = embedded({"OPENAI_BASE_URL": server.url("plain").replace("127.0.0.1", "provider.invalid")})

    assert vectors.shape == (1, DIMENSIONS)
    assert proxy.wanted == [("provider.invalid", server.port)]
    assert proxy.users == ([("me", "secret")] if who else [])


@pytest.mark.parametrize(
    ("excepted", "address", "direct"),
    [
        pytest.param("provider.test", "http://provider.test/v1", True, id="the host"),
        pytest.param("other.test, provider.test", "http://provider.test/v1", True, id="one of several"),
        pytest.param(".test", "http://provider.test/v1", True, id="a domain with a dot"),
        pytest.param("test", "http://provider.test/v1", True, id="a domain"),
        pytest.param("ider.test", "http://provider.test/v1", False, id="half a name is none"),
        pytest.param("provider.test:8080", "http://provider.test:8080/v1", True, id="the host with its port"),
        pytest.param("provider.test:8080", "http://provider.test/v1", False, id="another port"),
        pytest.param("*", "http://provider.test/v1", True, id="everything"),
        pytest.param("10.1.2.3", "http://10.1.2.3:11434", True, id="an address"),
        pytest.param("10.0.0.0/8", "http://10.1.2.3:11434", True, id="a network"),
        pytest.param("10.0.0.0/8", "http://11.1.2.3:11434", False, id="another network"),
        pytest.param("::1", "http://[::1]:11434", True, id="an IPv6 address"),
        pytest.param("fd00::/8", "http://[fd12::1]:11434", True, id="an IPv6 network"),
        pytest.param("nonsense/99", "http://10.1.2.3:11434", False, id="what is no network"),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_is_understood_in_every_form(monkeypatch, excepted, address, direct, name):
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv(name, excepted)

    assert (proxy_for(httpx.URL(address), lambda: None) is None) is direct


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_headers_of_the_settings_are_sent_and_win_over_our_own(server, name):
    headers = f'{{"X-Team": "search", "{name}": "Basic eA=="}}'

    embedded({"OPENAI_BASE_URL": server.url("plain"), "EMBEDDING_PROVIDER_HEADERS": headers})

    assert server.seen[0].headers["x-team"] == "search"
    assert server.seen[0].headers["authorization"] == "Basic eA=="


def test_headers_are_sent_to_ollama_too(server):
    settings = {"OLLAMA_BASE_URL": server.url("plain", ""), "EMBEDDING_PROVIDER_HEADERS": '{"X-Team": "search"}'}
    provider = wiring.provider_factory(from_env(settings))(Model("ollama", "m", DIMENSIONS))
    with pytest.raises(Exception, match="form that is not understood"):
        provider.embed(["tea"])

    assert server.seen[0].headers["x-team"] == "search"


@pytest.mark.parametrize(
    "headers",
    [
        "no json",
        "[]",
        '{"X": 1}',
        '{"Host": "x"}',
        '{"content-length": "1"}',
        '{"X Y": "1"}',
        '{"X": "a\\nb"}',
        '{"X": "é"}',
        '{"": ""}',
    ],
)
def test_headers_that_no_request_can_carry_are_refused_before_anything_starts(headers):
    with pytest.raises(ConfigError, match="EMBEDDING_PROVIDER_HEADERS") as wrong:
        from_env({"EMBEDDING_PROVIDER_HEADERS": headers})

    assert headers not in str(wrong.value)


def test_a_header_is_a_secret(database_url, redis_url):
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "EMBEDDING_PROVIDER_HEADERS": '{"X-Key": "CANARY-of-ours"}',
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": "m",
        "EMBEDDING_DIMENSIONS": "64",
        "OPENAI_BASE_URL": "http://127.0.0.1:9",
    }
    for arguments in (("config", "show"), ("config", "show", "--json"), ("provider", "check")):
        done = run_command(environment, *arguments)
        assert "CANARY" not in done.stdout + done.stderr


@pytest.mark.parametrize("extra", ["", "/"])
def test_azure_gets_its_key_in_its_own_header(server, extra):
    path = f"/openai/deployments/mine{extra}?api-version=2024-10-21"

    embedded({"OPENAI_BASE_URL": server.url("azure", path), "OPENAI_API_KEY": "key-of-azure"})

    assert server.seen[0].path.endswith("/openai/deployments/mine/embeddings?api-version=2024-10-21")


def test_max_input_tokens_are_a_setting_by_model():
    settings = from_env(
        {"EMBEDDING_MAX_INPUT_TOKENS": "openai/a-model=300, ollama=700", "OPENAI_BASE_URL": "http://127.0.0.1:9"}
    )
    factory = wiring.provider_factory(settings)

    assert factory(MODEL).limits.max_input_tokens == 150
    assert factory(Model("ollama", "whatever", 8)).limits.max_input_tokens == 350
    assert factory(Model("openai", "text-embedding-3-small", 8)).limits.max_input_tokens == 4_095
