"""Inconsistent rows: embeddings and vectors without an article, incomplete ones, of another tenant, with a lower version.

No transaction of ours leaves such rows behind. They come from writes without our triggers (disabled triggers, logical replication, a restore
without them) or beyond their snapshot (a writer in REPEATABLE READ whose snapshot is older than a new model's vectors).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .database import Connection, Database, Row
from .queries import QUERIES
from .settling import MET_A_WRITER

KINDS = {
    "orphan": "embeddings or vectors belong to no article",
    "unvouched": "articles have vectors that no embedding names",
    "incomplete": "embeddings have not all their vectors",
    "tenant": "articles have vectors under another tenant, where search does not find them",
    "ahead": "embeddings have a higher number than their article",
    "renumbered": "articles have a number that their history has given before",
}
FORGOTTEN = ("orphan", "unvouched", "incomplete")
STEP = 500


class Misfits:
    def __init__(self, database: Database) -> None:
        self.database = database

    def counts(self, connection: Connection) -> dict[str, int]:
        """How many of each kind, among all articles, as this transaction sees them."""
        found = Counter(row["kind"] for row in connection.execute(_statement("TRUE"), {}).fetchall())
        return {kind: found[kind] for kind in KINDS}

    def mend(self, after: str, last: str | None, *, dry_run: bool = False) -> int:
        """Those of the articles after `after` up to `last` (None: all); how many. Articles that a transaction is writing are skipped."""
        within = "{id} > %(after)s AND (%(last)s::text IS NULL OR {id} <= %(last)s::text)"
        seen = self.database.fetch(_statement(within), {"after": after, "last": last})
        if dry_run or not seen:
            return len(seen)
        ids = sorted({row["article_id"] for row in seen})
        return sum(self._mend(ids[at : at + STEP]) for at in range(0, len(ids), STEP))

    def _mend(self, ids: Sequence[str]) -> int:
        """Lock their rows first; then check again by a new statement, which sees what was committed before the lock."""
        try:
            with self.database.transaction() as connection:
                connection.execute(QUERIES.patience)
                locked = [row["id"] for row in connection.execute(QUERIES.lock_misfits, {"ids": list(ids)}).fetchall()]
                found = connection.execute(_statement("{id} = ANY (%(ids)s)"), {"ids": locked}).fetchall()
                _mend_in(connection, found)
        except MET_A_WRITER:
            return 0
        return len(found)


def _mend_in(connection: Connection, found: Sequence[Row]) -> None:
    forgotten = [row for row in found if row["kind"] in FORGOTTEN]
    if forgotten:
        rows: dict[str, list[Any]] = {
            "article_ids": [row["article_id"] for row in forgotten],
            "models": [row["model_id"] for row in forgotten],
        }
        connection.execute(QUERIES.forget_misfits, rows)
    for kind, statement in (
        ("tenant", QUERIES.move_misfits),
        ("ahead", QUERIES.lower_misfits),
        ("renumbered", QUERIES.renumber_misfits),
    ):
        ids = [row["article_id"] for row in found if row["kind"] == kind]
        if ids:
            connection.execute(statement, {"ids": ids})


def _statement(within: str) -> str:
    """Where {id} stands in `within`, the article's id does."""
    text: str = QUERIES.misfits
    for place, column in (("vectors", "v.article_id"), ("embeddings", "e.article_id"), ("articles", "a.id")):
        text = text.replace("{" + place + "_within}", within.replace("{id}", column))
    return text
