"""What each path asks of a token: the one place where it is said. What reads needs `read`; what changes needs `write`, of the operator `admin`."""

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
# The cockpit and the console ask for their cookie, which stands for a token.
CONSOLE: Final = ("cockpit", "console", "tasks", "articles", "errors", "workers", "queues", "models", "procedures", "audit")
OPEN: Final = ("", "health", "docs", "openapi.json", *CONSOLE)
# A POST that reads: a question may be too long for an address.
SEARCH: Final = "/api/search"
SAFE: Final = ("GET", "HEAD")

TO_LOOK: Final = Need(Scope.READ, Area.OPERATOR)
TO_ACT: Final = Need(Scope.ADMIN, Area.OPERATOR)


def need_of(method: str, path: str) -> Need | None:
    """None: the path is open to everybody. Raises KeyError for a path that nothing is said about, before the service starts."""
    first = path.split("/")[1]
    if first in OPEN:
        return None
    part = PARTS[first]
    if path == SEARCH:
        return Need(Scope.READ, Area.SEARCH)
    reads = method in SAFE
    return Need(Scope.READ if reads else part.to_change, part.area)
