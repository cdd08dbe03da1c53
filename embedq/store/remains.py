"""A look for anything of ours in the database: what `uninstall` promises is looked for, not believed."""

from __future__ import annotations

from .database import Database
from .queries import QUERIES
from .schema import RELATIONS


def remains(database: Database, *, keep_articles: bool = False) -> list[str]:
    """Tables, views, sequences, functions, triggers and types of embedq's in its schema; with `keep_articles` not the plain table."""
    rows = database.fetch(QUERIES.remains, {"relations": RELATIONS, "keep_articles": keep_articles})
    return [row["what"] for row in rows]
