"""Objects of embedq that are left in the database, for `uninstall` to verify that it removed everything."""

from __future__ import annotations

from collections.abc import Sequence

from .database import Database
from .queries import QUERIES


def remains(database: Database, relations: Sequence[str], *, keep_articles: bool = False) -> list[str]:
    """Tables, views, sequences, functions, triggers and types of embedq's in its schema; with `keep_articles` not the plain table."""
    rows = database.fetch(QUERIES.remains, {"relations": relations, "keep_articles": keep_articles})
    return [row["what"] for row in rows]


# Kinds of objects in the order of dropping, dependent ones first.
ORDER = ("trigger", "view", "function", "table", "sequence", "type")


def drops(database: Database, relations: Sequence[str]) -> list[str]:
    """Statements that remove what is left of an earlier embedq whose schema is gone, for its owner to look at and run: tables may hold rows. A
    table `articles` is not among them: it may be the application's."""
    rows = database.fetch(QUERIES.leftovers, {"relations": [name for name in relations if name != "articles"]})
    return [row["statement"] for row in sorted(rows, key=lambda row: ORDER.index(row["kind"]))]
