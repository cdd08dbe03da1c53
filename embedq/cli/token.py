"""`embedq token create|list|revoke|rotate`: named tokens for HTTP, MCP and the cockpit."""

from __future__ import annotations

import click

from ..decide.access import Scope, rate_of
from ..decide.spans import seconds_of
from ..errors import InputError
from ..store.database import Row
from ..store.tokens import rate_told
from .fences import opened
from .voice import Answer, Table, Text, command, confirm, who

ONCE = "this secret is shown this once; keep it where secrets are kept:"


@click.group()
def token() -> None:
    """Create, list, revoke and rotate named tokens with a scope."""


@command(name="create", changes=True)
@click.option("--name", required=True, help="Who uses it; recorded in the audit log.")
@click.option(
    "--scope", required=True, type=click.Choice([scope.value for scope in Scope]), help="Each includes the ones before it."
)
@click.option("--tenant", help="Only this tenant's articles.")
@click.option("--source", help="Only this source's rows.")
@click.option("--expires", metavar="AGE", help="Expires after 90s, 30m, 6h or 30d; by default it is valid until revoked.")
@click.option("--rate", metavar="N/TIME", help="At most so many requests: 10/s, 60/min, 1000/h, 5000/d.")
def create(
    name: str, scope: str, tenant: str | None, source: str | None, expires: str | None, rate: str | None, reason: str, yes: bool
) -> Answer:
    """Make a token and show its secret once; only its hash is stored.

    Example:  embedq token create --name support-bot --scope read --tenant acme --expires 30d --rate 60/min
    """
    expires_s = span(expires, "expires", least=1) if expires is not None else None
    limit = rate_of(rate) if rate is not None else None
    with opened() as store:
        secret, row = store.tokens.create(
            name, Scope(scope), who(), tenant=tenant, source=source, expires_s=expires_s, rate=limit, reason=reason
        )
    return Answer({"token": secret} | told(row), [f"token {name} ({scope}): {ONCE}", Text(secret)])


@command(name="list")
@click.option("--all", "ended", is_flag=True, help="Also those that are revoked or past their time.")
def list_(ended: bool) -> Answer:
    """List tokens: scope, limits, by whom made, when last used (to the minute).

    Example:  embedq token list
    """
    with opened() as store:
        rows = store.tokens.all(ended=ended)
    if not rows:
        return Answer([], ["there is no named token; AUTH_TOKEN and ADMIN_TOKEN are in the settings"])
    columns = ("name", "scope", "tenant", "source", "rate", "state", "expires", "last used", "made by", "made")
    shown = [
        (
            row["name"],
            row["scope"],
            row["tenant_id"],
            row["source"],
            rate_told(row),
            row["state"],
            row["expires_at"],
            row["last_used_at"],
            row["created_by"],
            row["created_at"],
        )
        for row in rows
    ]
    return Answer([told(row) for row in rows], [Table(columns, shown)])


@command(name="revoke", destroys=True)
@click.argument("name")
def revoke(name: str, reason: str, yes: bool, dry_run: bool) -> Answer:
    """Revoke a token with all its secrets. Each process of the service obeys within a second.

    Example:  embedq token revoke support-bot --yes --reason "it was in a log"
    """
    with opened() as store:
        if dry_run:
            found = [told(row) for row in store.tokens.all() if row["name"] == name]
            return Answer({"would_revoke": found}, [f"{len(found)} secrets of {name} would become invalid"])
        confirm(f"Revoke the token {name}?", yes=yes)
        count = store.tokens.revoke(name, who(), reason=reason)
    return Answer({"revoked": name, "secrets": count}, [f"token {name} is revoked"])


@command(name="rotate", changes=True)
@click.argument("name")
@click.option(
    "--overlap", default="1h", show_default=True, metavar="AGE", help="How long the old secret stays valid: 0s, 30m, 6h, 7d."
)
def rotate(name: str, overlap: str, reason: str, yes: bool) -> Answer:
    """Give a token a new secret; the old one stays valid for the overlap.

    Example:  embedq token rotate support-bot --overlap 1d
    """
    with opened() as store:
        secret, row, old = store.tokens.rotate(name, who(), overlap_s=span(overlap, "overlap"), reason=reason)
    ends = old["expires_at"]
    said = f"token {name} has a new secret; the old one is valid until {ends.astimezone():%Y-%m-%d %H:%M:%S}; {ONCE}"
    return Answer({"token": secret, "old_expires_at": ends} | told(row), [said, Text(secret)])


def span(text: str, field: str, least: float = 0) -> float:
    """Seconds. Raises InputError: not a span, negative, or beyond the calendar."""
    seconds = seconds_of(text)
    if not least <= seconds <= 1e9:
        raise InputError(f"{text!r} is not a duration that a token can have", hint="write 90s, 30m, 6h or 30d", field=field)
    return seconds


def told(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("rate_requests", "rate_s")} | {"rate": rate_told(row)}


for each in (create, list_, revoke, rotate):
    token.add_command(each)
