"""Named tokens: made, listed, revoked and rotated, each act with its line in the audit log. Only the hash of a secret is stored."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from ..decide.access import Principal, Rate, Scope, areas_of, check_new_token
from ..errors import InputError, NotFound
from .control import Audit
from .database import Connection, Database, Row
from .queries import QUERIES

# The prefix lets people and secret scanners recognize it.
PREFIX: Final = "embedq_"
# A use is recorded at most this often, except for a token with a rate limit, where each is counted.
NOTED_S: Final = 60.0


def hash_of(secret: str) -> bytes:
    """The secret has 256 random bits: a plain hash cannot be reversed by guessing."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


@dataclass(frozen=True, slots=True)
class Known:
    """An open token. `noted`: its use was recorded recently, which suffices without a rate limit."""

    principal: Principal
    secret_hash: bytes
    has_rate: bool
    noted: bool


class Tokens:
    def __init__(self, database: Database) -> None:
        self.database, self.audit = database, Audit(database)

    def create(
        self,
        name: str,
        scope: Scope,
        who: str,
        *,
        tenant: str | None = None,
        source: str | None = None,
        expires_s: float | None = None,
        rate: Rate | None = None,
        reason: str = "",
    ) -> tuple[str, Row]:
        """The secret, which is shown this once, and the token's row. Raises InputError: a wrong name, or one that is taken."""
        check_new_token(name, scope, tenant, source)
        facts = {
            "scope": scope,
            "tenant_id": tenant,
            "source": source,
            "expires_s": expires_s,
            "rate_requests": rate and rate.requests,
            "rate_s": rate and rate.seconds,
        }
        with self.database.transaction() as connection, _taken_told(name):
            secret, row = _insert(connection, name, who, facts)
            said = f"token {name} was created with the scope {scope}"
            self.audit.write("token", said, connection=connection, who=who, reason=reason, token=row["id"], **_told(row))
        return secret, row

    def rotate(self, name: str, who: str, *, overlap_s: float, reason: str = "") -> tuple[str, Row, Row]:
        """A new secret under the name, with the same lifetime; the old secret stays valid for `overlap_s` more. Returns the secret, the new row,
        and the old one with its end. Raises NotFound."""
        with self.database.transaction() as connection:
            old = connection.execute(QUERIES.token_named, {"name": name}).fetchone()
            if old is None:
                raise _unknown(name)
            ends = connection.execute(QUERIES.replace_token, {"id": old["id"], "overlap_s": overlap_s}).fetchone() or {}
            secret, row = _insert(connection, name, who, old | {"expires_s": old["lasts_s"]})
            said = f"token {name} was rotated; the old secret opens until {ends['expires_at']:%Y-%m-%d %H:%M:%S %Z}"
            self.audit.write("token", said, connection=connection, who=who, reason=reason, token=row["id"], replaced=old["id"])
        return secret, row, old | ends

    def revoke(self, name: str, who: str, *, reason: str = "") -> int:
        """Revoke all secrets of the name; how many there were. Raises NotFound."""
        with self.database.transaction() as connection:
            revoked = connection.execute(QUERIES.revoke_tokens, {"name": name, "who": who}).fetchall()
            if not revoked:
                raise _unknown(name)
            ids = [row["id"] for row in revoked]
            self.audit.write("token", f"token {name} was revoked", connection=connection, who=who, reason=reason, tokens=ids)
        return len(revoked)

    def all(self, *, ended: bool = False) -> list[Row]:
        """By name; `ended`: also revoked and expired ones. No row contains a secret or its hash."""
        return self.database.fetch(QUERIES.tokens, {"ended": ended})

    def open(self) -> list[Known]:
        return [_known(row) for row in self.database.fetch(QUERIES.open_tokens, {"noted_s": NOTED_S})]

    def use(self, token: int) -> float:
        """Note one request. Seconds to wait until the token's rate allows another; 0: it was allowed, and counted."""
        if self.database.execute(QUERIES.use_token, {"id": token}):
            return 0.0
        row = self.database.one(QUERIES.token_wait, {"id": token})
        return max(0.0, row["wait_s"] or 0.0) if row else 0.0


def rate_told(row: Row) -> str | None:
    return str(Rate(row["rate_requests"], row["rate_s"])) if row["rate_requests"] else None


def _insert(connection: Connection, name: str, who: str, facts: dict[str, Any]) -> tuple[str, Row]:
    secret = PREFIX + secrets.token_urlsafe(32)
    row = connection.execute(
        QUERIES.create_token, facts | {"name": name, "created_by": who, "secret_hash": hash_of(secret)}
    ).fetchone()
    assert row is not None
    return secret, row


def _told(row: Row) -> dict[str, Any]:
    expires = row["expires_at"].isoformat() if row["expires_at"] else None
    return {"tenant": row["tenant_id"], "source": row["source"], "expires_at": expires, "rate": rate_told(row)}


def _known(row: Row) -> Known:
    tenant, source = row["tenant_id"], row["source"]
    principal = Principal(row["name"], Scope(row["scope"]), areas_of(tenant, source), tenant, source, row["id"])
    return Known(principal, bytes(row["secret_hash"]), row["has_rate"], row["lately_used"] and not row["has_rate"])


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no open token {name!r}", hint="`embedq token list` shows their names")


@contextmanager
def _taken_told(name: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation:
        raise InputError(
            f"there is a token {name!r} already",
            hint=f"`embedq token rotate {name}` gives it a new secret; or choose another name",
            field="name",
        ) from None
