"""A preview of an upgrade or downgrade of the schema, read from the migrations."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError
from .database import Database
from .schema import REVISIONS, check_revision, check_server, current

if TYPE_CHECKING:
    from alembic.script import Script

DROPPED = re.compile(r"^DROP TABLE (?:IF EXISTS )?([\w, \n]+?)(?: CASCADE)?;", re.MULTILINE)


class Ahead(NamedTuple):
    """A migration on the way. `sql`: what it executes."""

    revision: str
    about: str
    sql: str


class Undone(NamedTuple):
    """A migration that would be undone: its title, and the tables that would be dropped."""

    revision: str
    about: str
    tables: tuple[str, ...]


def ahead(database: Database, revision: str = "head") -> tuple[str | None, list[Ahead]]:
    """Where the schema is, and what an upgrade to `revision` would do, in order. Changes nothing."""
    check_revision(revision)
    check_server(database)
    now = current(database)
    found = reversed(_between(revision, now or "base"))
    return now, [Ahead(each.revision, each.doc, _up(each.revision)) for each in found if each.revision != now]


def undone(now: str | None, revision: str) -> list[Undone]:
    """The newest first; none where there is nothing to undo. Raises InputError for a revision that cannot be gone back to."""
    check_revision(revision)
    if now is None:
        return []
    found = _between(now, revision, select_for_downgrade=True)
    return [Undone(each.revision, each.doc.partition(" (docs")[0], _dropped(each.revision)) for each in found]


def _between(upper: str, lower: str, **how: Any) -> list[Script]:
    from alembic.script import ScriptDirectory
    from alembic.script.revision import RevisionError
    from alembic.util import CommandError

    try:
        return list(ScriptDirectory(str(files("embedq.store.migrations"))).iterate_revisions(upper, lower, **how))
    except (CommandError, RevisionError) as unknown:
        raise InputError(f"the schema cannot go there: {unknown}", hint=REVISIONS) from unknown


def _up(revision: str) -> str:
    return _sql(revision, "up") or f"-- {revision}: see embedq/store/migrations/versions\n"


def _dropped(revision: str) -> tuple[str, ...]:
    return tuple(name.strip() for names in DROPPED.findall(_sql(revision, "down")) for name in names.split(","))


def _sql(revision: str, way: str) -> str:
    """The statements of one way of a migration; empty where they are not in a file."""
    script = files("embedq.store.migrations").joinpath("sql", f"{revision}_{way}.sql")
    return script.read_text(encoding="utf-8") if script.is_file() else ""
