"""Permissions: scopes of tokens, and what a path or a tool requires. Pure functions (docs/reference/tokens.rst)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..errors import InputError

MAX_NAME: Final = 100
DEFAULT_TENANT: Final = "default"
RATE: Final = re.compile(r"([1-9]\d{0,6})/(s|min|h|d)")
SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


class Scope(StrEnum):
    """Each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        order = tuple(Scope)
        return order.index(self) >= order.index(other)


class Area(StrEnum):
    """A part of the service. `operator`: shows or changes the queue of all tenants. `search`: can be limited to one source."""

    ARTICLES = "articles"
    SEARCH = "search"
    OPERATOR = "operator"
    MCP = "mcp"


@dataclass(frozen=True, slots=True)
class Need:
    """What a path or a tool requires of a token."""

    scope: Scope
    area: Area


@dataclass(frozen=True, slots=True)
class Rate:
    """At most this many requests in any period of this many seconds."""

    requests: int
    seconds: float

    def __str__(self) -> str:
        unit = next(name for name, seconds in SECONDS.items() if seconds == self.seconds)
        return f"{self.requests}/{unit}"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. `tenant`, `source`: None for all. `token`: id of its row in `embedding_tokens`; 0 for tokens of the settings and for
    access without one."""

    name: str
    scope: Scope
    areas: Collection[Area]
    tenant: str | None = None
    source: str | None = None
    token: int = 0


EVERYWHERE: Final = frozenset(Area)
# The default before authentication: no permission, no tenant.
NOBODY: Final = Principal("nobody", Scope.READ, frozenset(), tenant="")
# The caller when no token is needed: the service is on loopback, and neither token of the settings is set.
ANYBODY: Final = Principal("admin", Scope.ADMIN, EVERYWHERE)
# The two tokens of the settings keep the permissions that they had before named tokens existed, and open MCP.
BY_AUTH_TOKEN: Final = Principal("AUTH_TOKEN", Scope.WRITE, frozenset({Area.ARTICLES, Area.SEARCH, Area.MCP}))
BY_ADMIN_TOKEN: Final = Principal("admin", Scope.ADMIN, frozenset({Area.OPERATOR, Area.MCP}))


def areas_of(tenant: str | None, source: str | None) -> frozenset[Area]:
    """The areas open to a named token. The operator's area shows all tenants, so it is closed to a token of one tenant. A token of one
    source may only search it."""
    if source is not None:
        return frozenset({Area.SEARCH})
    return EVERYWHERE if tenant is None else EVERYWHERE - {Area.OPERATOR}


def why_not(principal: Principal, need: Need) -> str | None:
    """The reason why the principal may not; None if it may."""
    if need.area not in principal.areas:
        return _closed(principal, need.area)
    if not principal.scope.includes(need.scope):
        return f"the token {principal.name} has the scope {principal.scope}, and this needs {need.scope}"
    return None


def _closed(principal: Principal, area: Area) -> str:
    if principal.source is not None:
        return f"the token {principal.name} is of one source, and this is not limited to a source"
    if principal.tenant is not None:
        return f"the token {principal.name} is of one tenant, and this is about all of them"
    return f"the token {principal.name} does not open the {area}'s area"


def tenant_for(principal: Principal, given: str | None, otherwise: str) -> str:
    """The tenant of a request. Raises PermissionError if it names another than the token's."""
    if principal.tenant is None:
        return given or otherwise
    if given is not None and given != principal.tenant:
        raise PermissionError(f"the token {principal.name} is of the tenant {principal.tenant} alone")
    return principal.tenant


def source_for(principal: Principal, given: str | Sequence[str] | None) -> str | Sequence[str] | None:
    """The source or sources of a search. Raises PermissionError if it names another than the token's."""
    if principal.source is None:
        return given
    if given is not None and given != principal.source and list(given) != [principal.source]:
        raise PermissionError(f"the token {principal.name} is of the source {principal.source} alone")
    return principal.source


def check_new_token(name: str, scope: Scope, tenant: str | None, source: str | None) -> None:
    """Raises InputError for an invalid name, or if scope, tenant and source cannot be combined."""
    if not (0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()):
        raise InputError(
            f"the name has {len(name)} characters, or characters that do not print",
            hint=f"1 to {MAX_NAME} visible characters; the audit log names the token by it",
            field="name",
        )
    if scope is Scope.ADMIN and (tenant or source):
        raise InputError(
            "an admin token is of all tenants and sources",
            hint="leave out --tenant and --source, or take --scope write",
            field="scope",
        )
    if tenant == "" or source == "":
        raise InputError("the tenant or the source is empty", hint="leave the option out for all of them", field="tenant")


def rate_of(text: str) -> Rate:
    """`60/min` as a Rate. Raises InputError."""
    found = RATE.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} is no rate", hint="write requests per time, for example 10/s, 60/min, 1000/h or 5000/d", field="rate"
        )
    return Rate(int(found[1]), float(SECONDS[found[2]]))
