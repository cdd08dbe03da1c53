"""Marking articles for review, and embedding unchanged articles again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.types.json import Jsonb

from ..errors import NotFound, NotWell
from .database import Connection, Database, Row
from .queries import QUERIES
from .unlocked import on_unlocked

STEP = 1000
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Which:
    """Articles that match all filters; None does not filter. `status`: as articles.embedding_status says."""

    ids: Sequence[str] | None = None
    tenant: str | None = None
    status: str | None = None
    marked: bool = False

    def parameters(self, after: str = "") -> dict[str, Any]:
        return asdict(self) | {"ids": None if self.ids is None else [*self.ids], "after": after, "limit": STEP}


class Repairs:
    def __init__(self, database: Database) -> None:
        self.database = database

    def named(self, keys: Sequence[str], tenant: str | None) -> list[str]:
        """Ids of the articles that these ids or slugs name. Raises NotFound naming the keys that name none."""
        rows = self.database.fetch(QUERIES.articles_named, {"keys": [*keys], "tenant": tenant})
        unknown = [row["key"] for row in rows if row["id"] is None]
        if unknown:
            raise NotFound(
                f"there is no article {', '.join(unknown)}", hint="`embedq articles list` shows ids and slugs; nothing was done"
            )
        return [row["id"] for row in rows]

    def count(self, which: Which) -> Row:
        """`articles`, and `bytes` of their texts."""
        return self.database.one(_with("count_articles_picked"), which.parameters()) or {"articles": 0, "bytes": 0}

    def marked(self, tenant: str | None, limit: int) -> list[Row]:
        return self.database.fetch(QUERIES.marked_articles, {"tenant": tenant, "limit": limit})

    def mark(self, which: Which, review: Mapping[str, Any]) -> int:
        """Put `embedq_review` into their metadata; their texts, versions and vectors are not touched."""
        values = {"review": Jsonb(dict(review))}
        return self._each(
            which, lambda connection, ids: connection.execute(QUERIES.mark_articles, values | {"ids": ids}).rowcount
        )

    def unmark(self, which: Which) -> int:
        return self._each(which, lambda connection, ids: connection.execute(QUERIES.unmark_articles, {"ids": ids}).rowcount)

    def reindex(self, which: Which, priority: str) -> int:
        """Give each a task that embeds it anew with the active model; search uses the old vectors meanwhile. Returns how many."""

        def want(connection: Connection, ids: list[str]) -> int:
            made = connection.execute(QUERIES.reindex, {"ids": ids, "priority": priority}).rowcount
            connection.execute(QUERIES.wake)
            return made

        return self._each(which, want)

    def _each(self, which: Which, act: Callable[[Connection, list[str]], int]) -> int:
        """Step by step by id, each step committed. Articles locked by transactions are tried again until PATIENCE_S seconds pass without progress."""
        done, after, passed_over = 0, "", list[str]()
        while rows := self.database.fetch(_with("pick_articles"), which.parameters(after)):
            after = rows[-1]["id"]
            made, left = on_unlocked(self.database, [row["id"] for row in rows], act)
            done, passed_over = done + made, passed_over + left
        made, left = on_unlocked(self.database, passed_over, act, patience_s=PATIENCE_S)
        if left:
            raise NotWell(
                f"{done + made} articles are done; {len(left)} are being written by open transactions, the first: {left[0]}",
                hint="the same command again takes what is left when those transactions have ended",
            )
        return done + made


def _with(statement: str) -> str:
    text: str = getattr(QUERIES, statement)
    return text.replace("{picked}", QUERIES.picked_articles)
