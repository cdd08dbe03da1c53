"""Connections with one deadline and one size limit for a whole exchange.

httpcore's time-outs limit single reads and writes, so a server that sends one byte a second never exceeds them. Here every wait is limited
to the time left of the exchange: connecting (all addresses of a host together), TLS, writing, headers and body. Bytes are counted as they
arrive, before parsing, which also bounds endless headers, chunks and 1xx answers.

DNS resolution is not limited here; its time-out is in resolv.conf.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import httpcore

T = TypeVar("T")
TLS_RECORD: Final = 65_536


class TooMuch(Exception):
    """The answer is larger than any valid answer to the request."""


class _Exchange(threading.local):
    """The exchange of this thread: when it ends (monotonic seconds), and how many bytes may still arrive."""

    ends_at: float = float("inf")
    bytes_left: float = float("inf")


_current: Final = _Exchange()


@contextmanager
def bounded(seconds: float, most_bytes: int) -> Iterator[None]:
    """Limit this thread's use of connections of `BoundedBackend` in the block to `seconds` and to `most_bytes` received bytes (`allow` adds
    to them)."""
    _current.ends_at, _current.bytes_left = time.monotonic() + seconds, most_bytes
    try:
        yield
    finally:
        _current.ends_at = _current.bytes_left = float("inf")


def allow(more_bytes: int) -> None:
    _current.bytes_left += more_bytes


def refuse_late() -> None:
    """Check the deadline between two reads. Raises httpcore.ReadTimeout after it."""
    _left_s(None, httpcore.ReadTimeout)


def _left_s(timeout: float | None, too_late: type[Exception]) -> float | None:
    """Seconds that one wait may take. Raises `too_late` after the deadline."""
    left = _current.ends_at - time.monotonic()
    if left <= 0:
        raise too_late("the whole exchange took too long")
    if timeout is None:
        return None if left == float("inf") else left
    return min(timeout, left)


class BoundedStream(httpcore.NetworkStream):
    """One connection. `stream`: httpcore's stream over a socket."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, _left_s(timeout, httpcore.ReadTimeout))
        _current.bytes_left -= len(data)
        if _current.bytes_left < 0:
            raise TooMuch
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Does not use httpcore's write, which restarts its time-out after every piece sent."""
        link, rest = self._stream.get_extra_info("socket"), memoryview(buffer)
        while rest:
            left_s = _left_s(timeout, httpcore.WriteTimeout)
            try:
                link.settimeout(left_s)
                rest = rest[link.send(rest) :]
            except TimeoutError as late:
                raise httpcore.WriteTimeout(late) from late
            except OSError as broken:
                raise httpcore.WriteError(broken) from broken

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        if self.get_extra_info("ssl_object") is None:
            return BoundedStream(self._stream.start_tls(ssl_context, server_hostname, left_s))
        return TunnelledTls(self, ssl_context, server_hostname, left_s)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class TunnelledTls(httpcore.NetworkStream):
    """TLS inside the TLS of an https:// proxy, because a socket cannot be wrapped twice."""

    def __init__(
        self, outer: BoundedStream, ssl_context: ssl.SSLContext, server_hostname: str | None, timeout: float | None
    ) -> None:
        self._outer, self._incoming, self._outgoing = outer, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = ssl_context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        try:
            self._until_done(self._tls.do_handshake, timeout)
        except (ssl.SSLError, httpcore.NetworkError) as failed:
            self.close()
            raise httpcore.ConnectError(failed) from failed
        except BaseException:
            self.close()
            raise

    def _until_done(self, act: Callable[[], T], timeout: float | None) -> T:
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                self._send(timeout)
                received = self._outer.read(TLS_RECORD, timeout)
                self._incoming.write(received) if received else self._incoming.write_eof()
            else:
                self._send(timeout)
                return done

    def _send(self, timeout: float | None) -> None:
        if self._outgoing.pending:
            self._outer.write(self._outgoing.read(), timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._until_done(partial(self._tls.read, max_bytes), timeout)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as broken:
            raise httpcore.ReadError(broken) from broken

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pieces = (buffer[at : at + TLS_RECORD] for at in range(0, len(buffer), TLS_RECORD))
        try:
            for piece in pieces:
                self._until_done(partial(self._tls.write, piece), timeout)
        except ssl.SSLError as broken:
            raise httpcore.WriteError(broken) from broken

    def close(self) -> None:
        self._outer.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else self._outer.get_extra_info(info)


class BoundedBackend(httpcore.SyncBackend):
    """Opens connections that respect the limits of the exchange of the thread that uses them."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers, within the time of one connection for all."""
        give_up = time.monotonic() + (_left_s(timeout, httpcore.ConnectTimeout) or float("inf"))
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _addresses(host, port):
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                break
            try:
                seconds = None if left_s == float("inf") else left_s
                return BoundedStream(super().connect_tcp(address, port, seconds, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as away:
                failed = away
        raise failed


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as unknown:  # UnicodeError: a label of more than 63 characters
        raise httpcore.ConnectError(unknown) from unknown
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
