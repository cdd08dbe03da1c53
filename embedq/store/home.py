"""Which schema a new installation goes to: the first of the search path, or one of embedq's own where that has other tables.

An application's `embeddings` or `performance_metrics` would collide with embedq's. A search path in the address is used as given.
Sessions find the schema `embedq` without being told (sessions.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from ..addresses import shown
from ..errors import StoreRefused
from . import sessions
from .database import Database
from .queries import QUERIES
from .sessions import OWN

if TYPE_CHECKING:
    import sqlalchemy as sa

# A table `articles` with these columns was kept by an earlier downgrade; it is reused in its schema.
KEPT = ["id", "tenant_id", "slug", "title", "content", "metadata", "created_at", "updated_at"]
NOTE = "made by embedq for its tables"


def settle(connection: sa.Connection, url: str) -> None:
    """In the transaction that will install embedq: set the search path to the schema it goes to, made when need be, with pgvector.

    An existing installation stays where it is. Raises StoreRefused with what a superuser has to do, once.
    """
    chosen = _begin_anew(connection)
    found = _home(connection)
    if found["installed"]:
        return
    if not chosen and (found["others"] or not found["may_create"]):
        _move(connection, url, found)
    if found["vector"] is None:
        _add_vector(connection, url, found)


def leave(database: Database) -> None:
    """After embedq's last table is dropped: drop its schema, if embedq made it and it is empty."""
    for row in database.fetch(QUERIES.leave_home, {"own": OWN, "note": NOTE}):
        database.execute(row["statement"])


def _begin_anew(connection: sa.Connection) -> bool:
    """Pin the schema once more, now that no other upgrade is under way. Whether the address names a search path."""
    connection.exec_driver_sql("RESET search_path")
    chosen = connection.exec_driver_sql(QUERIES.path_is_chosen).scalar()
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    connection.exec_driver_sql(sessions.pin(pid))
    return bool(chosen)


def _home(connection: sa.Connection) -> dict[str, Any]:
    return dict(connection.exec_driver_sql(QUERIES.home, {"kept": KEPT, "own": OWN}).mappings().one())


def _move(connection: sa.Connection, url: str, found: dict[str, Any]) -> None:
    if not (found["may_use_prepared"] if found["prepared"] else found["may_make_schemas"]):
        why = (
            f"has other tables in the schema {found['name']} ({', '.join(found['others'])} …)"
            if found["others"]
            else "has no schema to create in"
        )
        raise StoreRefused(
            f"the database at {shown(url)} {why}, and this role may not make a schema for embedq",
            hint=f"once, as a superuser or the owner of that database: {_statements(found)}; then run the same again",
        )
    if not found["prepared"]:
        connection.exec_driver_sql(f"CREATE SCHEMA {OWN}")
        connection.exec_driver_sql(f"COMMENT ON SCHEMA {OWN} IS '{NOTE}'")
    _look_in(connection, OWN, found["vector"])


def _statements(found: dict[str, Any]) -> str:
    given = (
        f"GRANT USAGE, CREATE ON SCHEMA {OWN} TO {found['role']}"
        if found["prepared"]
        else f"CREATE SCHEMA {OWN} AUTHORIZATION {found['role']}"
    )
    return given if found["vector"] else f"{given}; CREATE EXTENSION vector"


def _add_vector(connection: sa.Connection, url: str, found: dict[str, Any]) -> None:
    """Into `public`, where other applications find it too, or beside embedq's tables."""
    where = " SCHEMA public" if found["public"] else ""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE EXTENSION IF NOT EXISTS vector{where}")
    except Exception as refused:
        if isinstance(getattr(refused, "orig", None), psycopg.errors.InsufficientPrivilege):
            raise StoreRefused(
                f"the extension pgvector is not installed in the database at {shown(url)}, and this role may not do it",
                hint=f"once, as a superuser in the database {found['database']}: CREATE EXTENSION vector; then run the same again",
            ) from refused
        raise
    home = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    _look_in(connection, home, _home(connection)["vector"])


def _look_in(connection: sa.Connection, home: str, vector: str | None) -> None:
    parts = {"home": home, "vector": None if vector == home else vector}
    connection.exec_driver_sql(
        "SELECT set_config('search_path', concat_ws(', ', quote_ident(%(home)s), %(vector)s::text, 'pg_temp'), false)", parts
    )
