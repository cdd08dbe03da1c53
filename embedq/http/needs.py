"""The scope that each path needs: `read` to read, `write` to change, `admin` for operators. Defined here only."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..decide.access import Area, Need, Scope


class Part(NamedTuple):
    """The paths below one beginning."""

    area: Area
    to_change: Scope


PARTS: Final = {
    "api": Part(Area.ARTICLES, Scope.WRITE),
    "admin": Part(Area.OPERATOR, Scope.ADMIN),
    "metrics": Part(Area.OPERATOR, Scope.ADMIN),
    # Each tool has a need of its own.
    "mcp": Part(Area.MCP, Scope.READ),
}
# The cockpit and the console check their session cookie instead.
CONSOLE: Final = (
    "cockpit",
    "console",
    "tasks",
    "articles",
    "errors",
    "workers",
    "queues",
    "models",
    "sources",
    "procedures",
    "audit",
)
OPEN: Final = ("", "health", "docs", "openapi.json", *CONSOLE)
# A POST that only reads: a query may be too long for a URL.
SEARCH: Final = "/api/search"
SAFE: Final = ("GET", "HEAD")

TO_LOOK: Final = Need(Scope.READ, Area.OPERATOR)
TO_ACT: Final = Need(Scope.ADMIN, Area.OPERATOR)


def need_of(method: str, path: str) -> Need | None:
    """None: the path needs no token. Raises KeyError, before the service starts, for a path that is not listed."""
    first = path.split("/")[1]
    if first in OPEN:
        return None
    part = PARTS[first]
    if path == SEARCH:
        return Need(Scope.READ, Area.SEARCH)
    reads = method in SAFE
    return Need(Scope.READ if reads else part.to_change, part.area)
