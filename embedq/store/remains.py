"""A look for anything of ours in the database: what `uninstall` promises is looked for, not believed."""

from __future__ import annotations

from .database import Database
from .queries import QUERIES
from .schema import RELATIONS


def remains(database: Database, *, keep_articles: bool = False) -> list[str]:
    """Tables, views, sequences, functions, triggers and types of embedq's in its schema; with `keep_articles` not the plain table."""
    rows = database.fetch(QUERIES.remains, {"relations": RELATIONS, "keep_articles": keep_articles})
    return [row["what"] for row in rows]


# By pg_class and the like: what each kind is dropped by, the dependent ones first.
ORDER = ("trigger", "view", "function", "table", "sequence", "type")


def drops(database: Database) -> list[str]:
    """Statements that remove what is left of an earlier embedq whose schema is gone, for its owner to look at and run: tables may hold rows. A
    table `articles` is none of them: it may be the application's."""
    rows = database.fetch(QUERIES.leftovers, {"relations": [name for name in RELATIONS if name != "articles"]})
    return [row["statement"] for row in sorted(rows, key=lambda row: ORDER.index(row["kind"]))]
