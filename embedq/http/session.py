"""Signing in to the cockpit: a cookie that proves the admin token was known, without holding it. No state on the server.

The cookie is HttpOnly and SameSite=Strict; every form carries a token derived from it, so that no other page can act.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

from .guard import Area, Guard

COOKIE = "embedq_cockpit"
LASTS_S = 8 * 3600
# While nobody is asked for a token there is nothing to sign with but this process's own secret.
_OF_THIS_PROCESS = secrets.token_bytes(32)


def _sign(guard: Guard, purpose: str, text: str) -> str:
    key = guard.tokens.get(Area.ADMIN, "").encode() or _OF_THIS_PROCESS
    return hmac.new(key, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()


def new_cookie(guard: Guard, now: float | None = None) -> str:
    body = f"{int((now or time.time()) + LASTS_S)}.{secrets.token_hex(8)}"
    return f"{body}.{_sign(guard, 'cockpit session', body)}"


def is_valid(guard: Guard, cookie: str | None, now: float | None = None) -> bool:
    """Whether we signed it and it has not run out. Compared in constant time."""
    body, _, signature = (cookie or "").rpartition(".")
    if not hmac.compare_digest(_sign(guard, "cockpit session", body).encode(), signature.encode("utf-8", "replace")):
        return False
    until = body.partition(".")[0]
    return until.isdigit() and int(until) > (now or time.time())


def form_token(guard: Guard, cookie: str) -> str:
    return _sign(guard, "cockpit form", cookie)


def form_token_fits(guard: Guard, cookie: str, given: str) -> bool:
    return hmac.compare_digest(form_token(guard, cookie).encode(), given.encode("utf-8", "replace"))
