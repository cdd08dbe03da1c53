"""Connections: how many there may be, and how long a client may take to send a request's head and to read the answer.

uvicorn has no limit for either, and accepts connections until no file descriptor is left. This class is mixed into its protocol
class for h11, which lets every method through to the answer 405 (httptools answers 400 to a method that it does not know).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ..decide.connections import Limits
from .middleware import HEADERS
from .origins import peer_of

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

# From the connection, or the first byte of a further request, to the end of its head.
HEAD_S, HEAD_MAX = 10.0, 32 * 1024
# A connection whose client reads nothing of an answer for so long is closed.
READ_S = 30.0
# After an answer that did not wait for the body: closed at once, a client still sending would lose the answer.
LINGER_S = 2.0


class Crowd:
    """The open connections of a process, the oldest first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[Bounded, None] = {}
        self._of: Counter[str] = Counter()

    def join(self, new: Bounded) -> bool:
        """Make room: of those that ask for nothing the oldest is closed, of the same address where that has its share. False when
        there is none to close."""
        self._open[new] = None
        self._of[new.peer] += 1
        while (too_many_of_peer := self._of[new.peer] > self.limits.per_peer) or len(self._open) > self.limits.total:
            idle = self._idle(new, new.peer if too_many_of_peer else None)
            if idle is None:
                return False
            self.leave(idle)
            idle.transport.abort()
        return True

    def leave(self, one: Bounded) -> None:
        if one in self._open:
            del self._open[one]
            self._of[one.peer] -= 1
            if not self._of[one.peer]:
                del self._of[one.peer]

    def _idle(self, new: Bounded, peer: str | None) -> Bounded | None:
        """A connection that has not sent a complete head, otherwise one that is idle between requests."""
        resting = None
        for one in self._open:
            if one is new or not one.asks_for_nothing() or (peer is not None and one.peer != peer):
                continue
            if one.cycle is None:
                return one
            resting = resting or one
        return resting


class Closing:
    """uvicorn's transport, but `close()` says "no more" first and lets the client finish where its body is still on the way."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], is_closing: Callable[[], bool]) -> None:
        self._transport = transport
        self.write, self.abort, self.get_extra_info = transport.write, transport.abort, transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading
        self.close, self.is_closing = close, is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Bounded(asyncio.Protocol):
    """Mixed in before uvicorn's class, which has these attributes."""

    transport: asyncio.Transport
    cycle: RequestResponseCycle | None
    flow: FlowControl
    crowd: Crowd

    def __init__(self, crowd: Crowd, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.crowd, self.peer = crowd, ""
        self._of_head: asyncio.TimerHandle | None = None
        self._of_reading: asyncio.TimerHandle | None = None
        self._head_size, self._lingers = 0, False

    def awaits_head(self) -> bool:
        return self._lingers or self.cycle is None or self.cycle.response_complete

    def asks_for_nothing(self) -> bool:
        return self.awaits_head() and not self._socket.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        super().connection_made(Closing(self._socket, self.end, self._is_closing))  # type: ignore[arg-type]
        self.peer = peer_of((transport.get_extra_info("peername") or ("",))[0])
        self._of_head = self._later(HEAD_S)
        if not self.crowd.join(self):
            self._socket.write(TURNED_AWAY)
            self._linger()

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.leave(self)
        for timer in (self._of_head, self._of_reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_closing():
            return
        super().data_received(data)
        if not self.awaits_head():
            if self._of_head is not None:
                self._of_head.cancel()
                self._of_head, self._head_size = None, 0
            return
        self._head_size += len(data)
        if self._head_size > HEAD_MAX:
            self.send_400_response("The head of the request is too large.")
        self._of_head = self._of_head or self._later(HEAD_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._of_reading = self._later(READ_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._of_reading is not None and not self._socket.is_closing():
            self._of_reading.cancel()
            self._of_reading = None

    def send_400_response(self, msg: str) -> None:
        """For requests that are not HTTP. Replaces uvicorn's own answer, so that every answer is a problem with our headers."""
        if self.awaits_head() or not self.cycle.response_started:  # type: ignore[union-attr]
            self._socket.write(canned(400, "Bad Request", "http", "The request is no HTTP", msg, "send HTTP/1.1"))
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.end()

    def end(self) -> None:
        """What uvicorn's `transport.close()` does."""
        if self._is_closing():
            return
        if self.cycle is None or not self.cycle.more_body or not self._socket.can_write_eof():
            self._socket.close()  # it would wait until the client has read everything, which may never happen
            self._of_reading = self._of_reading or self._later(READ_S)
            return
        self._linger()

    def _linger(self) -> None:
        self._lingers = True
        self._socket.write_eof()
        self.flow.resume_reading()
        if self._of_head is not None:
            self._of_head.cancel()
        self._of_head = self._later(LINGER_S)

    def _is_closing(self) -> bool:
        return self._lingers or self._socket.is_closing()

    def _later(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._socket.abort)


def protocol(crowd: Crowd) -> Callable[..., asyncio.Protocol]:
    """What uvicorn makes of each connection."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    kind: type[Bounded] = type("BoundedConnection", (Bounded, H11Protocol), {})

    def make(**named: Any) -> asyncio.Protocol:
        return kind(crowd, **named)

    return make


def canned(status: int, phrase: str, kind: str, title: str, detail: str, next_step: str, *headers: str) -> bytes:
    """A whole answer for a connection that has no request (yet)."""
    told = {
        "type": f"urn:embedq:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "field": None,
        "next_step": next_step,
        "request_id": "",
        "errors": [],
    }
    body = json.dumps(told)
    head = [
        f"HTTP/1.1 {status} {phrase}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
        *(f"{name}: {value}" for name, value in HEADERS.items()),
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("ascii")


TURNED_AWAY = canned(
    503,
    "Service Unavailable",
    "crowded",
    "Too many connections",
    "all connections of the service are at work",
    "try again",
    "Retry-After: 2",
)
