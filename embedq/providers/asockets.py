"""The asynchronous form of `sockets`: connections with one deadline and one size limit for a whole exchange.

At the deadline the task's current wait is cancelled. Bytes are counted as they arrive, before parsing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import httpcore

from .sockets import TooMuch


@dataclass(slots=True)
class _Exchange:
    """How many bytes may still arrive."""

    bytes_left: float


_current: Final[ContextVar[_Exchange]] = ContextVar("the exchange of this task")


@asynccontextmanager
async def bounded(seconds: float, most_bytes: int) -> AsyncIterator[None]:
    """Limit this task's work in the block to `seconds` (then TimeoutError) and to `most_bytes` received bytes (`allow` adds to them)."""
    token = _current.set(_Exchange(most_bytes))
    try:
        async with asyncio.timeout(seconds):
            yield
    finally:
        _current.reset(token)


def allow(more_bytes: int) -> None:
    _current.get().bytes_left += more_bytes


def pool(**arguments: Any) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(network_backend=_Backend(), **arguments)


class _Stream(httpcore.AsyncNetworkStream):
    """One connection. `stream` is httpcore's own."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        _current.get().bytes_left -= len(data)
        if _current.get().bytes_left < 0:
            raise TooMuch
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(host, port, timeout, local_address, socket_options))
