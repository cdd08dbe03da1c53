"""One exchange with a service over HTTP: a request, then a complete answer or a fault. All HTTP providers use it.

An exchange is bounded whatever the server does: one deadline (`sockets`), and a size limit for the answer before and after decompression.
Redirects are not followed, so that texts and keys go only to the server that the setting names. Cookies are not kept.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import httpcore
import httpx

from .._version import __version__
from ..addresses import secret_of
from ..errors import ConfigError, Fault
from . import asockets
from .addresses import refuse_bad_address, unusable
from .faults import Cause, cause_of_exception, fault
from .proxies import proxy_for
from .sockets import BoundedBackend, TooMuch, allow, bounded, refuse_late

# Bytes allowed besides the body, for headers, chunk sizes and trailers; and the smallest average chunk, because a body sent byte by byte
# costs much processor time.
FRAMING_BYTES: Final = 300_000
PIECES, BYTES_A_PIECE = 10_000, 100
# Bytes per number: 17 digits with sign, exponent, comma and indentation; base64 needs a third of that.
BYTES_A_NUMBER: Final = 32
BYTES_A_VECTOR: Final = 2_000
OVERHEAD_BYTES: Final = 1_000_000
UNPACKED_AT_ONCE: Final = 1_000_000
KEPT_ALIVE_S: Final = 5.0

_AWAY: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    OSError,
    zlib.error,
)


class Answer(NamedTuple):
    """`headers` by lower-case name. `body`: decompressed."""

    status: int
    headers: dict[str, str]
    body: bytes


class Packed(Exception):
    """The body has a content encoding that the request did not allow."""


TROUBLES: Final = (TooMuch, Packed, *_AWAY)


def most_bytes(count: int, dimensions: int) -> int:
    """Size limit of an answer with `count` vectors: about twice their longest JSON form."""
    return OVERHEAD_BYTES + count * (BYTES_A_VECTOR + dimensions * BYTES_A_NUMBER)


class Exchange:
    """Connections to one service. Safe to share between threads; make it in the process that uses it, after any fork."""

    def __init__(
        self,
        name: str,
        setting: str,
        address: str,
        *,
        timeout_s: float,
        connect_timeout_s: float,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str | None] = (),
    ) -> None:
        """`setting`: name of the setting that has `address`. Raises ConfigError if the address or the machine's proxy or certificate
        settings cannot be used. Opens no connection."""
        address = secret_of(address)
        refuse_bad_address(setting, address)
        self._url, self.name = _url(setting, address), name
        self.timeout_s = timeout_s
        self._timeouts = {"connect": connect_timeout_s, "read": timeout_s, "write": timeout_s, "pool": timeout_s}
        self._headers = [(b"Host", self._url.netloc), *_headers(self._url, headers or {})]
        self.secrets = (*secrets, self._url.password, *self._url.params.values())
        self._pooled = _pooled(self._url)
        self._pool = httpcore.ConnectionPool(network_backend=BoundedBackend(), **self._pooled)
        self._apool: httpcore.AsyncConnectionPool | None = None

    def __repr__(self) -> str:
        return f"Exchange({self.name})"

    def post(self, path: str, asked: Mapping[str, Any], most: int) -> Answer:
        """Send `asked` as JSON to `path` below the address. Raises a fault unless a complete answer of at most `most` bytes arrives."""
        # The fault is raised outside `except`, so that no traceback shows the transport's error, which may contain text of the server.
        try:
            with bounded(self.timeout_s, FRAMING_BYTES):
                return self._exchanged(self._below(path), _content(asked), most)
        except TROUBLES as error:
            trouble = self._fault(error, most)
        raise trouble

    async def apost(self, path: str, asked: Mapping[str, Any], most: int) -> Answer:
        """The asynchronous form of `post`. An Exchange is used by one event loop."""
        try:
            async with asockets.bounded(self.timeout_s, FRAMING_BYTES):
                return await self._aexchanged(self._below(path), _content(asked), most)
        except TROUBLES as error:
            trouble = self._fault(error, most)
        raise trouble

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._pool.close()

    async def aclose(self) -> None:
        """Close the connections of `apost`. Safe to call twice."""
        if self._apool is not None:
            await self._apool.aclose()

    def _fault(self, error: Exception, most: int) -> Fault:
        match error:
            case TooMuch():
                return fault(self.name, Cause.TOO_LARGE, f"more than {most:,} bytes")
            case Packed():
                return fault(self.name, Cause.MALFORMED, f"content encoding {error}", secrets=self.secrets)
            case _:
                return fault(self.name, cause_of_exception(error) or Cause.CUT_OFF, self._words(error), secrets=self.secrets)

    def _words(self, error: Exception) -> str:
        if isinstance(error, httpcore.TimeoutException):
            return f"{type(error).__name__} ({self.timeout_s:g} s for the whole request)"
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        return f"{self._url.host}:{port}, {type(error).__name__}: {error}".rstrip(": ")

    def _exchanged(self, url: httpcore.URL, content: bytes, most: int) -> Answer:
        with self._pool.stream("POST", url, **self._parts(content)) as response:
            headers = _answered(response, most)
            allow(most)
            return Answer(response.status, headers, _whole(response.iter_stream(), headers.get("content-encoding", ""), most))

    async def _aexchanged(self, url: httpcore.URL, content: bytes, most: int) -> Answer:
        if self._apool is None:
            self._apool = asockets.pool(**self._pooled)
        async with self._apool.stream("POST", url, **self._parts(content)) as response:
            headers = _answered(response, most)
            asockets.allow(most)
            pieces = await _all(response.aiter_stream(), most)
            return Answer(response.status, headers, _whole(pieces, headers.get("content-encoding", ""), most))

    def _parts(self, content: bytes) -> dict[str, Any]:
        return {"headers": self._headers, "content": content, "extensions": {"timeout": self._timeouts}}

    def _below(self, path: str) -> httpcore.URL:
        target = _below(self._url.raw_path, path.encode())
        return httpcore.URL(scheme=self._url.raw_scheme, host=self._url.raw_host, port=self._url.port, target=target)


def _content(asked: Mapping[str, Any]) -> bytes:
    return json.dumps(asked, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _answered(response: httpcore.Response, most: int) -> dict[str, str]:
    """The response's headers. Raises TooMuch if they announce a body of more than `most` bytes."""
    headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in response.headers}
    if _said_length(headers) > most:
        raise TooMuch
    return headers


def _url(setting: str, address: str) -> httpx.URL:
    try:
        return httpx.URL(address)
    except (httpx.InvalidURL, ValueError):
        pass
    raise unusable(setting)


def _headers(url: httpx.URL, headers: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    """User and password of the address are used only if no key is given."""
    yield b"User-Agent", f"embedq/{__version__}".encode()
    yield b"Accept", b"application/json"
    yield b"Accept-Encoding", b"gzip, deflate"
    yield b"Content-Type", b"application/json"
    by_name = {name.lower(): (name.encode(), value.encode()) for name, value in headers.items()}  # of two of a name the last
    if (url.username or url.password) and "authorization" not in by_name:
        yield b"Authorization", b"Basic " + b64encode(f"{url.username}:{url.password}".encode())
    yield from by_name.values()


def _below(raw_path: bytes, path: bytes) -> bytes:
    """The address with `path` appended before its query; unchanged for an empty path."""
    if not path:
        return raw_path
    base, mark, query = raw_path.partition(b"?")
    return base.rstrip(b"/") + b"/" + path + mark + query


# The way there


def _pooled(url: httpx.URL) -> dict[str, Any]:
    """Keyword arguments for httpcore's connection pool."""
    certificates = _certificates() if url.scheme == "https" else None
    return {
        "ssl_context": certificates,
        "proxy": proxy_for(url, _certificates),
        "max_connections": None,
        "keepalive_expiry": KEPT_ALIVE_S,
    }


def _certificates() -> Any:
    try:
        return httpx.create_ssl_context()
    except OSError:
        pass
    raise ConfigError(
        "the certificates of the environment cannot be read", hint="correct or unset SSL_CERT_FILE and SSL_CERT_DIR"
    )


# The answer


def _said_length(headers: Mapping[str, str]) -> float:
    said = headers.get("content-length", "")
    return float(said) if said.isdecimal() else 0


def _whole(pieces: Iterable[bytes], encoding: str, most: int) -> bytes:
    """The decompressed body. Raises TooMuch as soon as it exceeds `most`, Packed for an encoding that the request did not allow."""
    kept = _Kept(most)
    for piece in _unpacked(pieces, encoding.strip().lower()):
        kept.add(piece)
        refuse_late()
    return b"".join(kept.pieces)


async def _all(pieces: AsyncIterable[bytes], most: int) -> list[bytes]:
    """The body as sent. Raises TooMuch as soon as it exceeds `most`."""
    kept = _Kept(most)
    async for piece in pieces:
        kept.add(piece)
    return kept.pieces


class _Kept:
    """The part of a body read so far. `add` raises TooMuch for more than `most` bytes, or for too many small pieces."""

    def __init__(self, most: int) -> None:
        self.pieces: list[bytes] = []
        self._size, self._most = 0, most

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        self.pieces.append(piece)
        if self._size > self._most or len(self.pieces) > PIECES + self._size / BYTES_A_PIECE:
            raise TooMuch


def _unpacked(pieces: Iterable[bytes], encoding: str) -> Iterable[bytes]:
    match encoding:
        case "" | "identity":
            return pieces
        case "gzip" | "x-gzip":
            return _inflated(pieces, zlib.MAX_WBITS | 16)
        case "deflate":
            return _inflated(pieces, 0)
        case _:
            raise Packed(encoding)


def _inflated(pieces: Iterable[bytes], window: int) -> Iterator[bytes]:
    """Decompress in small steps, which bounds the memory. A window of 0: decide by the first byte, because some servers send deflate
    without zlib's header."""
    inflater = None
    for piece in filter(None, pieces):
        if inflater is None:
            inflater = zlib.decompressobj(window or (zlib.MAX_WBITS if piece[0] & 0x0F == 8 else -zlib.MAX_WBITS))
        while part := inflater.decompress(piece, UNPACKED_AT_ONCE):
            yield part
            piece = inflater.unconsumed_tail
    if inflater is not None and not inflater.eof:
        raise httpcore.RemoteProtocolError("the packed body is not whole")
