"""What surrounds every request: an id, a limit of size, no other site's pages, a line in the log, and the numbers."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, NoReturn

import anyio
from starlette.datastructures import Headers, MutableHeaders

from ..logs import request_id
from ..meter import METER
from . import problems
from .guard import Guard, from_elsewhere, host_is_local
from .problems import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("embedq.access")

BODY_MAX = 16 * 1024 * 1024
# Between two pieces of a body; a client that went silent holds its part of the body in memory for so long.
PATIENCE_S = 30.0
GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SAFE = ("GET", "HEAD", "OPTIONS")
# A page that is meant to be looked at brings a policy of its own.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Envelope:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, guard: Guard, body_max: int = BODY_MAX, patience_s: float = PATIENCE_S) -> None:
        self.app, self.guard, self.body_max, self.patience_s = app, guard, body_max, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        known = headers.get("x-request-id", "")
        token = request_id.set(known if GIVEN_ID.fullmatch(known) else uuid.uuid4().hex)
        try:
            await _Request(self, scope, receive, send, headers).run()
        finally:
            request_id.reset(token)


class _Request:
    def __init__(self, envelope: Envelope, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        self.envelope, self.scope, self.headers = envelope, scope, headers
        # HEAD is answered as GET is; the server leaves the body out.
        self.asked: Scope = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        self._receive, self._send = receive, send
        self.started = time.monotonic()
        self.status = 0
        self.received = 0
        self.complete = False
        self.refused: Refusal | None = None

    async def run(self) -> None:
        try:
            self.check()
            await self.envelope.app(self.asked, self.receive, self.send_its_own)
            if self.refused is not None:
                raise self.refused
        except Refusal as refused:
            await self.answer(problems.of_refusal(refused))
        except Exception as error:
            if self.status:
                raise
            await self.answer(problems.unexpected(error))
        finally:
            self.note()

    def check(self) -> None:
        if self.scope["method"] not in SAFE and from_elsewhere(self.headers):
            raise Refusal(
                403,
                "elsewhere",
                "Another site's page asked",
                "the Origin is not this service",
                "call it from a program or its own page",
            )
        if self.envelope.guard.everything_open and not host_is_local(self.headers):
            raise Refusal(
                403,
                "elsewhere",
                "The service is for this machine",
                "the Host is not this machine",
                "ask for 127.0.0.1, or set tokens",
            )
        length = self.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.envelope.body_max:
            raise too_large(self.envelope.body_max)

    async def receive(self) -> Message:
        """The next piece of the body, within bounds of size and patience; after it, whatever the server has to say."""
        if self.complete:
            return await self._receive()
        with anyio.move_on_after(self.envelope.patience_s) as waited:
            message = await self._receive()
        if waited.cancelled_caught:
            self.refuse(too_slow(self.envelope.patience_s))
        self.received += len(message.get("body", b""))
        if self.received > self.envelope.body_max:
            self.refuse(too_large(self.envelope.body_max))
        self.complete = not message.get("more_body", False)
        return message

    def refuse(self, refusal: Refusal) -> NoReturn:
        self.refused = refusal
        raise refusal

    async def send_its_own(self, message: Message) -> None:
        """FastAPI takes whatever happens while a body is read for bad JSON: its word does not count then."""
        if self.refused is None:
            await self.send(message)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = request_id.get()
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def answer(self, response: ASGIApp) -> None:
        if not self.status:
            await response(self.scope, self._receive, self.send)

    def note(self) -> None:
        method, seconds = self.scope["method"], time.monotonic() - self.started
        route = getattr(self.asked.get("route"), "path", "other")
        method = method if method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS") else "other"
        METER.count("http_requests", method, route, str(self.status))
        METER.observe("http", seconds, method, route)
        if log.isEnabledFor(logging.INFO):
            peer = (self.scope.get("client") or ("-",))[0]
            facts = {"method": method, "path": route, "status": self.status, "seconds": round(seconds, 4), "peer": peer}
            log.info("%s %s %d", method, route, self.status, extra=facts)


def too_large(limit: int) -> Refusal:
    said = f"it is larger than {limit // 1024 // 1024} MiB"
    return Refusal(413, "too-large", "The body is too large", said, "send fewer or shorter articles at once", field="body")


def too_slow(patience_s: float) -> Refusal:
    said = f"nothing came for {patience_s:g} s"
    # What was sent of the body is still on the way: the connection cannot be used again.
    return Refusal(
        408, "too-slow", "The body did not come", said, "send it again", field="body", headers={"Connection": "close"}
    )
