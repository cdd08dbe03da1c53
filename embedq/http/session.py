"""Signing in to the cockpit: a cookie that proves that a token was known, without holding it (docs/why/sessions.rst).

The cookie is HttpOnly and SameSite=Strict; every form carries a token derived from it, so that no other page can act. It names the token
it was given for, whose own secret signs it: when that token is revoked, the cookie is invalid. Sessions that were signed out
are recorded in the audit log, where each process of the service reads them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from typing import TYPE_CHECKING

from ..decide.access import ANYBODY, BY_ADMIN_TOKEN, Principal

if TYPE_CHECKING:
    from ..operations.authentication import Admission
    from ..store import Store

COOKIE = "embedq_cockpit"
LASTS_S = 8 * 3600
NAMED = re.compile(r"[0-9]+\.[0-9a-f]+-([0-9]{1,18})\.[0-9a-f]+")


class Sessions:
    """Which cookies are valid, and for which principal."""

    def __init__(self, admission: Admission, store: Store) -> None:
        self._admission, self._store = admission, store
        self._ended: dict[str, float] = {}  # the session's name -> when its cookie runs out

    def open(self, cookie: str | None) -> Principal | None:
        """Raises StoreUnavailable: whether another process has ended it, or its token was revoked, is not known then."""
        if cookie is None:
            return None
        if token_of(cookie) and self._admission.must_look:
            self._admission.look()
        ended = not is_valid(self._admission, cookie) or _name(cookie) in self._ended
        return None if ended or self._store.audit.session_has_ended(_name(cookie), LASTS_S) else self.principal(cookie)

    def principal(self, cookie: str) -> Principal | None:
        """Whose token a valid cookie stands for, as it was at the last look."""
        if token := token_of(cookie):
            known = self._admission.with_id(token)
            return known.principal if known else None
        return ANYBODY if self._admission.everything_open else BY_ADMIN_TOKEN

    def end(self, cookie: str, who: str) -> None:
        """Takes effect in this process at once. Raises StoreUnavailable if it could not be recorded for the others."""
        now = time.time()
        self._ended = {name: until for name, until in self._ended.items() if until > now} | {_name(cookie): now + LASTS_S}
        self._store.audit.write("cockpit", "signed out of the cockpit", who=who, session=_name(cookie))


def _name(cookie: str) -> str:
    """The random part, and of a named token its row; it opens nothing without its signature."""
    return cookie.split(".")[1]


def token_of(cookie: str | None) -> int:
    """The row of the token in `embedding_tokens`; 0: ADMIN_TOKEN, or a cookie that is not ours."""
    found = NAMED.fullmatch(cookie or "")
    return int(found[1]) if found else 0


def _sign(admission: Admission, token: int, purpose: str, text: str) -> str | None:
    key = admission.key_of(token)
    return hmac.new(key, f"{purpose}\0{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest() if key else None


def new_cookie(admission: Admission, principal: Principal, now: float | None = None) -> str:
    name = secrets.token_hex(8) + (f"-{principal.token}" if principal.token else "")
    body = f"{int((now or time.time()) + LASTS_S)}.{name}"
    return f"{body}.{_sign(admission, principal.token, 'cockpit session', body)}"


def is_valid(admission: Admission, cookie: str | None, now: float | None = None) -> bool:
    """Whether we signed it, its token is open and it has not run out; not whether it was signed out. Compared in constant time."""
    body, _, signature = (cookie or "").rpartition(".")
    if not _fits(_sign(admission, token_of(cookie), "cockpit session", body), signature):
        return False
    until = body.partition(".")[0]
    return until.isdigit() and int(until) > (now or time.time())


def form_token(admission: Admission, cookie: str, said: str = "") -> str:
    """Of the session's forms; with `said`, of that sentence shown to it."""
    return _sign(admission, token_of(cookie), "cockpit form", cookie + said) or ""


def form_token_fits(admission: Admission, cookie: str, given: str, said: str = "") -> bool:
    return _fits(form_token(admission, cookie, said), given)


def _fits(wanted: str | None, given: str) -> bool:
    return bool(wanted) and hmac.compare_digest((wanted or "").encode(), given.encode("utf-8", "replace"))


def own_path(path: str, otherwise: str = "/") -> str:
    """A path of this service, to send a browser to; `otherwise` in place of any other address."""
    is_own = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isascii() and path.isprintable()
    return path if is_own else otherwise
