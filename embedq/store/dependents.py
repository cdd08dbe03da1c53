"""Objects of the application that depend on embedq's tables: checked before these are dropped."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import NotWell
from .database import Database
from .queries import QUERIES
from .schema import RELATIONS


@dataclass(frozen=True, slots=True)
class Dependents:
    """`hold`: they keep PostgreSQL from dropping our tables. `go`: they are dropped with the tables."""

    hold: list[str] = field(default_factory=list)
    go: list[str] = field(default_factory=list)


def dependents(database: Database) -> Dependents:
    """Views, foreign keys and functions of the application that need our tables; its triggers, policies, publications and grants on them."""
    rows = database.fetch(QUERIES.dependents, {"relations": RELATIONS})
    return Dependents([row["what"] for row in rows if row["holds"]], [row["what"] for row in rows if not row["holds"]])


def refuse_while_held(found: Dependents) -> None:
    """Raises NotWell naming what must be dropped first."""
    if found.hold:
        raise NotWell(
            f"{len(found.hold)} objects of the application need embedq's tables, so that these cannot be dropped:",
            lines=[f"- {what}" for what in found.hold],
            hint="drop them, or let them use tables of their own (their owner knows how to make them anew), then run it again; nothing was done",
        )
