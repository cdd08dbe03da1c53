"""A schema of which a part is missing: tables were dropped by hand, or a dump was restored in part. It cannot be completed, only removed."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NotWell
from . import home
from .database import Database
from .remains import drops
from .schema import RELATIONS, current, fits, missing

TOLD = 5
WAY_ON = (
    "restore what is missing from your own backup of the database; or `embedq uninstall --yes --no-backup` removes the rest "
    "(`--keep-articles`: the articles stay as a plain table), `embedq db upgrade` makes it anew, and `embedq restore FILE` brings a backup of"
    " embedq's back"
)
KEPT = (
    "ALTER TABLE article_texts DROP COLUMN IF EXISTS text_hash, DROP COLUMN IF EXISTS version",
    "ALTER TABLE article_texts RENAME TO articles",
)


def gone(database: Database) -> list[str]:
    """Tables and views that are missing although the schema is said to be of this version."""
    return [name for name in missing(database) if name in RELATIONS] if fits(current(database)) else []


def refuse(database: Database, what_for: str) -> None:
    """Raises NotWell with the way on if a part is missing."""
    if names := gone(database):
        raise NotWell(f"{told(names)}: {what_for}", hint=WAY_ON)


def told(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return f"a part of embedq's schema is missing ({', '.join(names[:TOLD])}{more})"


def remove(database: Database, *, keep_articles: bool) -> None:
    """Drop what is left, in one transaction. What the application has on it must have been looked for before."""
    keeps = keep_articles and "article_texts" not in gone(database)
    relations = [name for name in RELATIONS if not (keeps and name == "article_texts")]
    with database.transaction() as connection:
        if database.one("SELECT relkind FROM pg_class WHERE oid = to_regclass('articles')") == {"relkind": "v"}:
            connection.execute("DROP VIEW articles CASCADE")
        for statement in [*drops(database, relations), "DROP TABLE embedq_schema_version"]:
            connection.execute(f"{statement} CASCADE")
        for statement in KEPT if keeps else ():
            connection.execute(statement)
    home.leave(database)
    database.close()
