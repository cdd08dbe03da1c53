"""Reading a body: within its bounds of size, time and JSON values, all bodies together within a bound of memory."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from ..decide.bodies import BODY_MAX, KIB, MIB, Bounds, Counted
from .problems import Refusal

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request

# Bodies that are being read or worked on. Bodies up to SMALL do not count, so that a small save never waits for a large upload.
HELD_MAX, SMALL = 16 * BODY_MAX, 64 * KIB
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Bodies:
    """The bodies of all requests of one process. Used by its event loop only."""

    def __init__(self, within_s: float | None = None, held_max: int = HELD_MAX) -> None:
        """`within_s`: a limit for all bodies, instead of each path's own."""
        self._within_s, self._held_max, self._held = within_s, held_max, 0

    async def read(self, request: Request, bounds: Bounds, *, form: bool = False) -> int:
        """Read the body into the request. Returns its size, for `let_go` after the answer. Raises Refusal."""
        check_kind(request.headers, form=form)
        if int(request.headers.get("content-length", "0")) > bounds.size:
            raise too_large(bounds.size)
        pieces: list[bytes] = []
        within_s = self._within_s or bounds.within_s
        try:
            async with asyncio.timeout(within_s):
                await self._collect(request, pieces, bounds, None if form else Counted(bounds))
        except TimeoutError:
            self.let_go(sum(map(len, pieces)))
            raise too_slow(within_s) from None
        except BaseException:
            self.let_go(sum(map(len, pieces)))
            raise
        # What Request.body() keeps; FastAPI and the parser of forms begin there.
        request._body = b"".join(pieces)
        return len(request._body)

    async def _collect(self, request: Request, pieces: list[bytes], bounds: Bounds, counted: Counted | None) -> None:
        size = 0
        try:
            async with aclosing(request.stream()) as stream:
                async for piece in stream:
                    self._hold(size, len(piece))
                    pieces.append(piece)
                    size += len(piece)
                    check_piece(piece, size, bounds, counted)
        except ClientDisconnect:
            raise Refusal(400, "gone", "The body broke off", "the client went away", "send it again", field="body") from None

    def _hold(self, before: int, more: int) -> None:
        self._held += more
        if self._held > self._held_max and before + more > SMALL:
            self._held -= more
            raise Refusal(
                503,
                "busy",
                "Too many large bodies at once",
                f"{self._held_max // MIB} MiB are being worked on",
                "send it again",
                headers={"Retry-After": "5"},
            )

    def let_go(self, size: int) -> None:
        self._held -= size


def has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def check_kind(headers: Headers, *, form: bool) -> None:
    """A body says what it is. Raises Refusal."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    fits = kind in FORMS if form else kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if fits or not has_body(headers):
        return
    wanted = FORMS[0] if form else "application/json"
    step = f"send it with `Content-Type: {wanted}`"
    raise Refusal(415, "kind", "The body is of another kind", f"this path takes {wanted}", step, field="Content-Type")


def check_piece(piece: bytes, size: int, bounds: Bounds, counted: Counted | None) -> None:
    if size > bounds.size:
        raise too_large(bounds.size)
    if counted is None:
        return
    # In UTF-8, which JSON is, a NUL is never a part of it; in UTF-16 each bracket has one.
    if b"\0" in piece:
        step = "send JSON in UTF-8; a NUL in a string would be \\u0000, which PostgreSQL cannot store"
        raise Refusal(400, "json", "The body is not JSON", "it holds a NUL byte", step, field="body")
    if (why := counted.too_much(piece)) is not None:
        step = "send fewer articles at once, and less or flatter metadata (at most 64 levels)"
        raise Refusal(400, "too-complex", "The body has too many parts", why, step, field="body")


def too_large(limit: int) -> Refusal:
    said = f"it is larger than {limit // MIB} MiB" if limit >= MIB else f"it is larger than {limit // KIB} KiB"
    return Refusal(413, "too-large", "The body is too large", said, "send fewer or shorter articles at once", field="body")


def too_slow(within_s: float) -> Refusal:
    said = f"it was not complete after {within_s:g} s"
    return Refusal(408, "too-slow", "The body did not come", said, "send it again", field="body")
