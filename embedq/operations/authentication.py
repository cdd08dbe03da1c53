"""Which token a caller has given: the settings' two, or one of the table, as this process saw it less than a second ago.

A process keeps the hashes of all open tokens for KEPT_S: a revoked token opens nothing within a second anywhere, and a flood of
wrong ones costs PostgreSQL one look in LOOK_APART_S, not one each.
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
# A token that is not known may have been made a moment ago: it is looked for again, by one look in so long at most.
LOOK_APART_S: Final = 0.05
# Without tokens, cookies are signed with a secret of this process.
_OF_THIS_PROCESS: Final = secrets.token_bytes(32)

# Who asks, while a request is answered.
acting: ContextVar[Principal] = ContextVar("embedq_principal", default=NOBODY)


class Admission:
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
        """Neither of the settings' tokens is set, which is allowed on loopback only: who gives no token may do everything."""
        return not any(secret for secret, _ in self._built_in.values())

    def closed(self, setting: str) -> bool:
        """Whether this token of the settings is missing beside the other: behind a proxy on this machine everybody comes from loopback."""
        return not self.everything_open and not self._built_in[setting][0]

    def built_in(self, given: str | None) -> Principal | None:
        """Compared in constant time."""
        found = None
        for secret, principal in self._built_in.values():
            if secret and hmac.compare_digest(secret.encode(), (given or "").encode("utf-8", "replace")):
                found = principal
        return found

    def may_be_named(self, given: str | None) -> bool:
        """Whether it has the form of a named token: anything else is not looked up."""
        return given is not None and TOKEN.fullmatch(given) is not None

    @property
    def must_look(self) -> bool:
        return self._clock() >= self._looked_at + KEPT_S

    def look(self) -> None:
        """Raises StoreUnavailable: whether a token is still open is not known then."""
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
        """How long to wait before the next look for a token that is not known."""
        return max(0.0, self._looked_at + LOOK_APART_S - self._clock())

    def named(self, given: str) -> Known | None:
        """As it was at the last look."""
        return self._open.get(hash_of(given))

    def key_of(self, token: int) -> bytes | None:
        """What signs the sessions of a token; None when there is none, or it is not open any more. 0: ADMIN_TOKEN."""
        if token == 0:
            return self._built_in["ADMIN_TOKEN"][0].encode() or _OF_THIS_PROCESS
        known = self.with_id(token)
        return known.secret_hash if known else None

    def with_id(self, token: int) -> Known | None:
        return next((known for known in self._open.values() if known.principal.token == token), None)

    def is_noted(self, known: Known) -> bool:
        """Whether this request may go without a statement of its own."""
        return known.noted or known.principal.token in self._noted

    def use(self, known: Known) -> float:
        """Count the request. Seconds to wait where the token's rate does not allow it yet, else 0."""
        wait_s = self._tokens().use(known.principal.token)
        if not known.has_rate:
            self._noted[known.principal.token] = self._clock()
        return wait_s

    def who(self, given: str | None) -> Principal | None:
        """The principal of a token, None if it is unknown; may wait for PostgreSQL. The use is not counted."""
        if (found := self.built_in(given)) or given is None or not self.may_be_named(given):
            return found
        if self.must_look:
            self.look()
        known = self.named(given)
        if known is None:
            self.look()
            known = self.named(given)
        return known.principal if known else None
