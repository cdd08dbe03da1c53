"""Authenticates tokens: the two of the settings, and those of the table, whose state in this process is less than a second old.

A process caches the hashes of all valid tokens for KEPT_S: a revoked token is refused everywhere within a second, and a flood of wrong
tokens causes one query in LOOK_APART_S, not one each.
"""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from ..addresses import TOKEN
from ..decide.access import BY_ADMIN_TOKEN, BY_AUTH_TOKEN, NOBODY, Principal
from ..store.tokens import NOTED_S, Known, hash_of

if TYPE_CHECKING:
    from ..settings import Settings
    from ..store.tokens import Tokens

KEPT_S: Final = 0.5
# An unknown token may be new: the table is read again, at most once in this time.
LOOK_APART_S: Final = 0.05
# Without tokens in the settings, cookies are signed with a secret of this process.
_OF_THIS_PROCESS: Final = secrets.token_bytes(32)

# The principal of the request being answered.
acting: ContextVar[Principal] = ContextVar("embedq_principal", default=NOBODY)


class Admission:
    """The tokens known to one process; shared by its threads. `tokens()`: their store."""

    def __init__(self, settings: Settings, tokens: Callable[[], Tokens], clock: Callable[[], float] = time.monotonic) -> None:
        self._built_in = {
            "AUTH_TOKEN": (settings.auth_token, BY_AUTH_TOKEN),
            "ADMIN_TOKEN": (settings.admin_token, BY_ADMIN_TOKEN),
        }
        self._tokens, self._clock = tokens, clock
        self._open: dict[bytes, Known] = {}
        self._looked_at = -math.inf
        self._noted: dict[int, float] = {}

    @property
    def everything_open(self) -> bool:
        """Neither token of the settings is set (allowed on loopback only): callers without a token may do everything."""
        return not any(secret for secret, _ in self._built_in.values())

    def closed(self, setting: str) -> bool:
        """Whether this token of the settings is unset while the other is set. Its area is then closed, also for loopback: a proxy on this
        machine connects from there."""
        return not self.everything_open and not self._built_in[setting][0]

    def built_in(self, given: str | None) -> Principal | None:
        """The principal of a token of the settings, compared in constant time."""
        found = None
        for secret, principal in self._built_in.values():
            if secret and hmac.compare_digest(secret.encode(), (given or "").encode("utf-8", "replace")):
                found = principal
        return found

    def may_be_named(self, given: str | None) -> bool:
        """Whether the text has the form of a named token; nothing else is looked up."""
        return given is not None and TOKEN.fullmatch(given) is not None

    @property
    def must_look(self) -> bool:
        return self._clock() >= self._looked_at + KEPT_S

    def look(self) -> None:
        """Read the valid tokens. Raises StoreUnavailable, because it is then unknown which tokens are revoked."""
        started = self._clock()
        self._open = {known.secret_hash: known for known in self._tokens().open()}
        self._looked_at = started
        self._noted = {token: at for token, at in self._noted.items() if started - at < NOTED_S}

    def now(self) -> float:
        return self._clock()

    def looked_since(self, moment: float) -> bool:
        return self._looked_at >= moment

    @property
    def look_in_s(self) -> float:
        """Seconds until the table may be read again for an unknown token."""
        return max(0.0, self._looked_at + LOOK_APART_S - self._clock())

    def named(self, given: str) -> Known | None:
        """The named token and its principal, as of the last read; None if unknown."""
        return self._open.get(hash_of(given))

    def key_of(self, token: int) -> bytes | None:
        """The key that signs sessions of a token (by its id; 0: ADMIN_TOKEN); None if the token is unknown or no longer valid."""
        if token == 0:
            return self._built_in["ADMIN_TOKEN"][0].encode() or _OF_THIS_PROCESS
        known = self.with_id(token)
        return known.secret_hash if known else None

    def with_id(self, token: int) -> Known | None:
        return next((known for known in self._open.values() if known.principal.token == token), None)

    def is_noted(self, known: Known) -> bool:
        """Whether this request needs no statement, because the use was recorded recently."""
        return known.noted or known.principal.token in self._noted

    def use(self, known: Known) -> float:
        """Count the request. Returns the seconds to wait if the token's rate does not allow it yet, else 0."""
        wait_s = self._tokens().use(known.principal.token)
        if not known.has_rate:
            self._noted[known.principal.token] = self._clock()
        return wait_s

    def who(self, given: str | None) -> Principal | None:
        """The principal of a token, or None; may query PostgreSQL. The use is not counted."""
        if (found := self.built_in(given)) or given is None or not self.may_be_named(given):
            return found
        if self.must_look:
            self.look()
        known = self.named(given)
        if known is None:
            self.look()
            known = self.named(given)
        return known.principal if known else None
