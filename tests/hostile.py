"""A provider that does harm: each path names one way. Raw sockets, because no server library sends what these send."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache

MB = 1_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EVERY_S = 0.1  # well below the time-outs of the tests: no single wait is ever too long

Way = Callable[["Visit"], None]


class Visit:
    """One request: `send` raises OSError when the client has gone; `drip` goes on until then, or until the server is closed."""

    def __init__(self, link: socket.socket, closing: threading.Event, body: bytes = b"") -> None:
        self.link, self.closing, self.body = link, closing, body

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.link.sendall(piece)

    def drip(self, piece: bytes) -> None:
        while not self.closing.wait(EVERY_S):
            self.link.sendall(piece)

    def flood(self, piece: bytes) -> None:
        """200 MB of it, unless the client goes."""
        for _ in range(200 * MB // len(piece)):
            self.link.sendall(piece)

    def answer(self, body: bytes, *headers: bytes) -> None:
        self.send(OK, b"Content-Length: %d\r\n" % len(body), *(header + b"\r\n" for header in headers), b"\r\n", body)


def _texts(visit: Visit) -> list[str]:
    return list(json.loads(visit.body)["input"])


@cache
def _zeros(window: int, size: int = 200 * MB) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, window)
    return b"".join(packer.compress(b" " * MB) for _ in range(size // MB)) + packer.flush()


def _gzip_bomb(visit: Visit) -> None:
    visit.answer(_zeros(31), b"Content-Encoding: gzip")


def _many_values(value: bytes, size: int) -> Way:
    return lambda visit: visit.answer(b'{"data": [' + value * (size // len(value)) + b"0]}")


DRIPS: dict[str, Way] = {
    "silent": lambda visit: visit.drip(b""),
    "drips-head": lambda visit: (visit.send(b"HTTP/1.1 200 OK\r\n"), visit.drip(b"X: a\r\n"))[1],
    "drips-status-line": lambda visit: visit.drip(b"H"),
    "drips-1xx": lambda visit: visit.drip(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "drips-chunks": lambda visit: (visit.send(CHUNKED), visit.drip(b"1\r\n \r\n"))[1],
    "drips-a-chunk-size": lambda visit: (visit.send(CHUNKED), visit.drip(b"0"))[1],
    "drips-trailers": lambda visit: (visit.send(CHUNKED, b"2\r\n{}\r\n0\r\n"), visit.drip(b"X: a\r\n"))[1],
    "drips-body": lambda visit: (visit.send(OK, b"Content-Length: 9000\r\n\r\n"), visit.drip(b" "))[1],
    "drips-until-closed": lambda visit: (visit.send(OK, b"\r\n"), visit.drip(b" "))[1],
    "drips-an-error": lambda visit: (visit.send(b"HTTP/1.1 503 No\r\nContent-Length: 9000\r\n\r\n"), visit.drip(b" "))[1],
    "drips-gzip": lambda visit: (
        visit.send(
            OK, b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", b"a\r\n", gzip.compress(b"")[:10], b"\r\n"
        ),
        visit.drip(b"5\r\n\x00\x00\x00\xff\xff\r\n"),
    )[1],
}
FLOODS: dict[str, Way] = {
    "gzip-bomb": _gzip_bomb,
    "deflate-bomb": lambda visit: visit.answer(_zeros(15), b"Content-Encoding: deflate"),
    "raw-deflate-bomb": lambda visit: visit.answer(_zeros(-15), b"Content-Encoding: deflate"),
    "error-bomb": lambda visit: visit.send(
        b"HTTP/1.1 400 No\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n", _zeros(31)
    ),
    "endless-chunks": lambda visit: (visit.send(CHUNKED), visit.flood(b"100000\r\n" + b" " * 0x100000 + b"\r\n"))[1],
    "endless-tiny-chunks": lambda visit: (visit.send(CHUNKED), visit.flood(b"1\r\n \r\n" * 10_000))[1],
    "endless-chunk-extension": lambda visit: (visit.send(CHUNKED, b"1;"), visit.flood(b"x" * MB))[1],
    "endless-body": lambda visit: (visit.send(OK, b"\r\n"), visit.flood(b" " * MB))[1],
    "endless-head": lambda visit: (visit.send(OK), visit.flood(b"X: a\r\n" * 10_000))[1],
    "endless-header": lambda visit: (visit.send(OK, b"X: "), visit.flood(b"a" * MB))[1],
    "endless-trailers": lambda visit: (visit.send(CHUNKED, b"0\r\n"), visit.flood(b"X: a\r\n" * 10_000))[1],
    "endless-1xx": lambda visit: visit.flood(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000),
    "huge-content-length": lambda visit: (visit.send(OK, b"Content-Length: 99999999999\r\n\r\n"), visit.flood(b" " * MB))[1],
    "huge-content-length-to-wait-for": lambda visit: (visit.send(OK, b"Content-Length: 90000000\r\n\r\n"), visit.drip(b""))[1],
}
VALUES: dict[str, Way] = {
    "many-lists": _many_values(b"[],", 5 * MB),
    "many-objects": _many_values(b"{},", 5 * MB),
    "many-strings": _many_values(b'"a",', 5 * MB),
    "many-numbers": _many_values(b"1.5,", 5 * MB),
    "deep": lambda visit: visit.answer(b"[" * MB),
    "deep-objects": lambda visit: visit.answer(b'{"data":' * (MB // 8)),
    "deep-error": lambda visit: visit.send(
        b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n", b'{"error": {"message": ', b"[" * 900, b"]" * 900, b"}}"
    ),
    "error-code-of-many-digits": lambda visit: visit.answer(b'{"error": {"code": "' + b"9" * 5_000 + b'"}}'),
    "retry-after-of-many-digits": lambda visit: visit.send(
        b"HTTP/1.1 429 No\r\nConnection: close\r\nx-ratelimit-reset-requests: ", b"9" * 60_000, b"x\r\n\r\n{}"
    ),
    "encoded-br": lambda visit: visit.answer(b"\x0b\x02\x80{}\x03", b"Content-Encoding: br"),
    "encoded-twice": lambda visit: visit.answer(gzip.compress(_zeros(31, 50 * MB)), b"Content-Encoding: gzip, gzip"),
    "encoded-cut-off": lambda visit: visit.answer(gzip.compress(b'{"data": []}')[:-9], b"Content-Encoding: gzip"),
    "encoded-nonsense": lambda visit: visit.answer(b"this is no gzip", b"Content-Encoding: gzip"),
    "two-lengths": lambda visit: visit.send(OK, b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "no-http": lambda visit: visit.send(b"SSH-2.0-OpenSSH_9.2\r\n"),
}
WAYS = DRIPS | FLOODS | VALUES


class HostileServer:
    """Serves one connection a thread, on loopback. `visits`: how many requests came, by path."""

    def __init__(
        self, ways: dict[str, Way] | None = None, greeting: Way | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """`greeting`: what every connection meets, before any request is read. `tls`: the server's own, for https."""
        self.ways, self.greeting, self.tls = ways or WAYS, greeting, tls
        self.visits: list[str] = []
        self.heads: list[bytes] = []
        self._closing = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, way: str = "", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/{way}"

    def close(self) -> None:
        self._closing.set()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._visit, args=(link,), daemon=True).start()

    def _visit(self, link: socket.socket) -> None:
        with ExitStack() as open_links, suppress(OSError, ValueError, IndexError):
            open_links.enter_context(link)
            if self.tls is not None:
                link = open_links.enter_context(self.tls.wrap_socket(link, server_side=True))
            if self.greeting is not None:
                self.greeting(Visit(link, self._closing))
            else:
                self._answer(link)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65_536):  # or unread bytes would reset the connection under the answer
                pass

    def _answer(self, link: socket.socket) -> None:
        path, body = self._request(link)
        self.visits.append(path)
        self.ways[path.split("/")[1]](Visit(link, self._closing, body))

    def _request(self, link: socket.socket) -> tuple[str, bytes]:
        with link.makefile("rb") as source:
            first, length, head = source.readline(), 0, b""
            while (line := source.readline()).strip():
                head += line
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.heads.append(head)
            return first.split()[1].decode(), source.read(length)


@contextmanager
def hostile(
    ways: dict[str, Way] | None = None, greeting: Way | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[HostileServer]:
    server = HostileServer(ways, greeting, tls)
    try:
        yield server
    finally:
        server.close()
