"""Middleware of every request: request id, cross-site check, allowed methods, access log, metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from ..telemetry.logs import request_id
from ..telemetry.meter import METER
from . import problems
from .bodies import has_body
from .origins import from_elsewhere, host_is_local
from .paths import Paths
from .problems import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..operations.authentication import Admission

log = logging.getLogger("embedq.access")

PIECE = 64 * 1024
GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SAFE = ("GET", "HEAD", "OPTIONS")
# HTML pages set their own policy.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RequestMiddleware:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, admission: Admission, paths: Paths) -> None:
        self.app, self.admission, self.paths = app, admission, paths

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
    def __init__(self, middleware: RequestMiddleware, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        self.middleware, self.scope, self.headers = middleware, scope, headers
        # HEAD is answered as GET is; the server leaves the body out.
        self.asked: Scope = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        self._receive, self._send = receive, send
        self.started = time.monotonic()
        self.status = 0
        self.body_is_read = not has_body(headers)

    async def run(self) -> None:
        try:
            self.check()
            await self.middleware.app(self.asked, self.receive, self.send)
        except Refusal as refused:
            await self.answer(problems.of_refusal(refused))
        except Exception as error:
            if self.status:
                raise
            await self.answer(problems.of_any(error))
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
        if self.middleware.admission.everything_open and not host_is_local(self.headers):
            raise Refusal(
                403,
                "elsewhere",
                "The service is for this machine",
                "the Host is not this machine",
                "ask for 127.0.0.1, or set tokens",
            )
        self.middleware.paths.check(self.scope["path"], self.scope["method"])

    async def receive(self) -> Message:
        message = await self._receive()
        self.body_is_read = self.body_is_read or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begin(message)
        body = message.get("body", b"")
        if len(body) <= PIECE:
            await self._send(message)
            return
        # The server waits after each piece for a client that is slow to read, instead of holding a copy of everything.
        for at in range(0, len(body), PIECE):
            more = message.get("more_body", False) or at + PIECE < len(body)
            await self._send({**message, "body": body[at : at + PIECE], "more_body": more})

    def begin(self, message: Message) -> None:
        self.status = message["status"]
        headers = MutableHeaders(scope=message)
        headers["X-Request-ID"] = request_id.get()
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if not self.body_is_read:
            # The rest of the body is still arriving: the connection cannot be reused.
            headers["Connection"] = "close"

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
